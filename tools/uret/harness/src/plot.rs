// SPDX-License-Identifier: GPL-2.0-only

//! Draws the report's plots, as SVG.

use std::path::Path;

use anyhow::{anyhow, Result};
use plotters::prelude::*;

use crate::limits::SWITCHES;
use crate::samples::{find, Measured};

/// A plot that was drawn.
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
    platform: &str,
    mode: &str,
    scenario: &str,
    class: &str,
) -> Option<f64> {
    find(results, platform, mode, scenario)?
        .per_op
        .get(class)
        .copied()
}

/// Instructions are what is drawn, or ticks where they are all there is.
fn class_of(results: &[Measured], platform: &str) -> &'static str {
    let has = |it: &&Measured| it.platform == platform && it.per_op.contains_key("instructions");
    match results.iter().find(has) {
        Some(_) => "instructions",
        None => "ticks",
    }
}

/// Horizontal bars, a pair for each kind of switch.
fn bars(results: &[Measured], platform: &str, class: &str, file: &Path, title: &str) -> Result<()> {
    let rows: Vec<&str> = SWITCHES
        .iter()
        .filter(|it| count(results, platform, "stock", it, class).is_some())
        .copied()
        .collect();
    let all = rows.iter().flat_map(|it| {
        MODES
            .iter()
            .filter_map(|mode| count(results, platform, mode.0, it, class))
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
        .x_label_formatter(&|it| format!("{it:.0}"))
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
            .filter_map(|(row, it)| Some((row, count(results, platform, mode, it, class)?)))
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

/// A line for each mode: what it costs, by the number behind a scenario's name.
fn lines(
    results: &[Measured],
    platform: &str,
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
                .filter(|it| it.platform == platform && it.mode == mode)
                .filter_map(|it| {
                    let n = it.scenario.strip_prefix(family)?.strip_prefix(':')?;
                    Some((n.parse().ok()?, *it.per_op.get(class)?))
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
    let all = || series.iter().flat_map(|it| it.3.iter());
    let (x_most, y_most) = all().fold((1.0, 1.0), |(x, y): (f64, f64), it| {
        (x.max(it.0), y.max(it.1))
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
        .x_label_formatter(&|it| format!("{it:.0}"))
        .y_label_formatter(&|it| format!("{it:.0}"))
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
                .map(|it| Circle::new(it, 3, color.filled())),
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

/// Draws what there is of one platform into a folder.
pub fn draw(results: &[Measured], platform: &str, dir: &Path) -> Result<Vec<Plot>> {
    let class = class_of(results, platform);
    let mut plots = Vec::new();
    let mut add = |name: &str, title: String, draw: &dyn Fn(&Path, &str) -> Result<bool>| {
        let file = format!("{platform}-{name}.svg");
        if draw(&dir.join(&file), &title).map_err(|err| anyhow!("{file}: {err}"))? {
            plots.push(Plot { title, file });
        }
        anyhow::Ok(())
    };
    let upper = platform.to_uppercase();

    add(
        "switches",
        format!("{upper}: {class} per switch"),
        &|file, title| {
            bars(results, platform, class, file, title)?;
            Ok(true)
        },
    )?;
    add(
        "slots",
        format!("{upper}: {class} to set all slots before an entry"),
        &|file, title| {
            lines(
                results,
                platform,
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
        &|file, title| lines(results, platform, class, &["turns"], file, title, "vCPUs"),
    )?;
    Ok(plots)
}
