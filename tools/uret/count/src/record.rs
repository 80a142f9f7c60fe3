// SPDX-License-Identifier: GPL-2.0-only

//! The output of the plugin: for each scenario, a line with a JSON object.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The samples of one class in one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub median: u64,
    pub min: u64,
    pub max: u64,
    pub total: u64,
}

impl Summary {
    /// Summarizes samples. Sorts `samples`.
    pub fn of(samples: &mut [u64]) -> Self {
        samples.sort_unstable();
        Self {
            median: samples.get(samples.len() / 2).copied().unwrap_or(0),
            min: samples.first().copied().unwrap_or(0),
            max: samples.last().copied().unwrap_or(0),
            total: samples.iter().sum(),
        }
    }
}

/// The samples of all classes with a count, by name.
pub type Summaries = BTreeMap<String, Summary>;

/// The record of a scenario, from [`Marker::Begin`](crate::classify::Marker::Begin) to
/// [`Marker::End`](crate::classify::Marker::End).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The number of samples.
    pub samples: usize,
    /// The instructions of the host per sample, on all CPUs.
    pub host: Summaries,
    /// The instructions of guests per sample.
    pub guest: Summaries,
    /// The number of instructions of each CPU in the scenario, of the host and of guests.
    pub cpus: Vec<[u64; 2]>,
}

/// Parses the output of the plugin.
pub fn parse(text: &str) -> serde_json::Result<Vec<Record>> {
    text.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_up() {
        let summary = Summary::of(&mut [7, 1, 2, 9, 2]);
        assert_eq!(
            summary,
            Summary {
                median: 2,
                min: 1,
                max: 9,
                total: 21
            }
        );
        assert_eq!(Summary::of(&mut []).median, 0);
    }

    #[test]
    fn what_is_not_a_record_is_an_error() {
        let good = r#"{"samples":1,"host":{"wrmsr":{"median":1,"min":1,"max":1,"total":1}},"guest":{},"cpus":[[3,4]]}"#;
        assert_eq!(parse(good).unwrap()[0].host["wrmsr"].total, 1);
        assert!(parse("{\"samples\":1}").is_err());
        assert!(parse(&good[..40]).is_err());
        assert!(parse(&format!("{good}\nnonsense")).is_err());
    }
}
