// SPDX-License-Identifier: GPL-2.0-only

//! What the plugin writes, a JSON object in a line for each scenario.

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
    /// Sums samples up; they get sorted.
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

/// The samples of all classes that were seen at all, by name.
pub type Summaries = BTreeMap<String, Summary>;

/// A scenario, between [`Marker::Begin`](crate::classify::Marker::Begin) and the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How many samples there were.
    pub samples: usize,
    /// What the host executed for each, on all CPUs.
    pub host: Summaries,
    /// What guests executed.
    pub guest: Summaries,
    /// How many instructions each CPU executed from the beginning to the end, host and guest.
    pub cpus: Vec<[u64; 2]>,
}

/// Reads what the plugin has written.
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
