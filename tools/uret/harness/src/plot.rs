// SPDX-License-Identifier: GPL-2.0-only

//! Draws the plots of the report, as SVG.

use std::path::Path;

use anyhow::{anyhow, Result};
use plotters::prelude::*;

use crate::limits::SWITCHES;
use crate::samples::{find, Measured};

/// A plot in a file.
pub struct Plot {
    pub title: String,
    pub file: String,
}

const STOCK: RGBColor = RGBColor(0x99, 0x99, 0x99);
const URET: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const FONT: &str = "sans-serif";

const MODES: [(&str, RGBColor); 2] = [("stock", STOCK), ("uret", URET)];

fn count(
    results: &[Measured],
    vendor: &str,
    mode: &str,
    scenario: &str,
    class: &str,
) -> Option<f64> {
    find(results, vendor, mode, scenario)?
        .per_op
        .get(class)
        .copied()
}

/// The class for the plots: instructions if counted, otherwise ticks.
fn class_of(results: &[Measured], vendor: &str) -> &'static str {
    let has_instructions =
        |result: &&Measured| result.vendor == vendor && result.per_op.contains_key("instructions");
    match results.iter().find(has_instructions) {
        Some(_) => "instructions",
        None => "ticks",
    }
}

/// Draws horizontal bars, two for each kind of switch.
fn bars(results: &[Measured], vendor: &str, class: &str, file: &Path, title: &str) -> Result<()> {
    let rows: Vec<&str> = SWITCHES
        .iter()
        .filter(|scenario| count(results, vendor, "stock", scenario, class).is_some())
        .copied()
        .collect();
    let all = rows.iter().flat_map(|scenario| {
        MODES
            .iter()
            .filter_map(|mode| count(results, vendor, mode.0, scenario, class))
    });
    let most = all.fold(1.0, f64::max) * 1.12;

    let height = 90 + 44 * rows.len() as u32;
    let area = SVGBackend::new(file, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 20))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(170)
        .build_cartesian_2d(0.0..most, 0.0..rows.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (i, (mode, color)) in MODES.iter().enumerate() {
        let bar = |row: usize, value: f64| {
            // The first row is on top.
            let top = (rows.len() - row) as f64 - 0.12 - 0.38 * i as f64;
            (top, [(0.0, top - 0.36), (value, top)])
        };
        let values: Vec<(usize, f64)> = rows
            .iter()
            .enumerate()
            .filter_map(|(row, scenario)| {
                Some((row, count(results, vendor, mode, scenario, class)?))
            })
            .collect();
        chart
            .draw_series(
                values
                    .iter()
                    .map(|(row, value)| Rectangle::new(bar(*row, *value).1, color.filled())),
            )?
            .label(*mode)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], color.filled()));
        chart.draw_series(values.iter().map(|(row, value)| {
            Text::new(
                format!("{value:.0}"),
                (*value + most / 200.0, bar(*row, *value).0 - 0.06),
                (FONT, 13),
            )
        }))?;
    }
    for (row, name) in rows.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(0.0, (rows.len() - row) as f64 - 0.4));
        area.draw(&Text::new(name.to_string(), (x - 160, y - 4), (FONT, 14)))?;
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// Draws a line for each mode: the cost, by the number in the name of a scenario.
fn lines(
    results: &[Measured],
    vendor: &str,
    class: &str,
    families: &[&str],
    file: &Path,
    title: &str,
    x: &str,
) -> Result<bool> {
    let mut series = Vec::new();
    for family in families {
        for (mode, color) in MODES {
            let points: Vec<(f64, f64)> = results
                .iter()
                .filter(|result| result.vendor == vendor && result.mode == mode)
                .filter_map(|result| {
                    let n = result.scenario.strip_prefix(family)?.strip_prefix(':')?;
                    Some((n.parse().ok()?, *result.per_op.get(class)?))
                })
                .collect();
            if points.len() > 1 {
                series.push((
                    format!("{mode}, {family}"),
                    color,
                    family != &families[0],
                    points,
                ));
            }
        }
    }
    let all = || series.iter().flat_map(|line| line.3.iter());
    let (x_most, y_most) = all().fold((1.0, 1.0), |(x, y): (f64, f64), point| {
        (x.max(point.0), y.max(point.1))
    });
    if series.is_empty() {
        return Ok(false);
    }

    let area = SVGBackend::new(file, (900, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 20))
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..x_most).log_scale().base(2.0), 0.0..y_most * 1.1)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(class)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (name, color, thin, points) in series {
        let style = color.stroke_width(if thin { 1 } else { 3 });
        chart
            .draw_series(LineSeries::new(points.clone(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
        chart.draw_series(
            points
                .into_iter()
                .map(|point| Circle::new(point, 3, color.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(true)
}

/// Draws all plots of a vendor into a folder.
pub fn draw(results: &[Measured], vendor: &str, dir: &Path) -> Result<Vec<Plot>> {
    let class = class_of(results, vendor);
    let mut plots = Vec::new();
    let mut add = |name: &str, title: String, draw: &dyn Fn(&Path, &str) -> Result<bool>| {
        let file = format!("{vendor}-{name}.svg");
        if draw(&dir.join(&file), &title).map_err(|err| anyhow!("{file}: {err}"))? {
            plots.push(Plot { title, file });
        }
        anyhow::Ok(())
    };
    let upper = vendor.to_uppercase();

    add(
        "switches",
        format!("{upper}: {class} per switch"),
        &|file, title| {
            bars(results, vendor, class, file, title)?;
            Ok(true)
        },
    )?;
    add(
        "slots",
        format!("{upper}: {class} to set all slots before an entry"),
        &|file, title| {
            lines(
                results,
                vendor,
                class,
                &["set-new", "set-equal"],
                file,
                title,
                "slots",
            )
        },
    )?;
    add(
        "vcpus",
        format!("{upper}: {class} per turn of vCPUs that share a CPU"),
        &|file, title| lines(results, vendor, class, &["turns"], file, title, "vCPUs"),
    )?;
    Ok(plots)
}
