//! The plots, as SVG text. Told apart by shape and dash, not by colour.

use crate::plan::Mode;
use crate::report::{Report, Row};
use crate::takeover::STEP_MS;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::error::Error;

type Done = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const SIZE: (u32, u32) = (860, 380);
const FONT: (&str, i32) = ("sans-serif", 13);

fn draw(work: impl FnOnce(&Area<'_>) -> Done) -> Result<String, String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|e| e.to_string())?;
        work(&area).map_err(|e| e.to_string())?;
        area.present().map_err(|e| e.to_string())?;
    }
    Ok(svg)
}

/// A mark of each mode, by shape.
fn mark(chart: &mut Chart<'_, '_>, mode: Mode, at: (f64, f64)) -> Done {
    let (full, open) = (BLACK.filled(), BLACK.stroke_width(1));
    let grey = RGBColor(130, 130, 130).filled();
    let one = std::iter::once(at);
    match mode {
        Mode::NativeAll => chart.draw_series(one.map(|p| Circle::new(p, 5, grey)))?,
        Mode::Native => chart.draw_series(one.map(|p| Circle::new(p, 5, full)))?,
        Mode::Run => chart.draw_series(one.map(|p| Circle::new(p, 5, open)))?,
        Mode::Record => chart.draw_series(one.map(|p| TriangleMarker::new(p, 6, full)))?,
        Mode::RecordOff => chart.draw_series(
            one.map(|p| EmptyElement::at(p) + plotters::element::Rectangle::new([(-4, -4), (4, 4)], open)),
        )?,
        Mode::NativeOwn => chart.draw_series(one.map(|p| TriangleMarker::new(p, 6, grey)))?,
        Mode::RunOwn => chart.draw_series(one.map(|p| Cross::new(p, 5, BLACK.stroke_width(2))))?,
        Mode::Protect => chart.draw_series(
            one.map(|p| EmptyElement::at(p) + plotters::element::Rectangle::new([(-4, -4), (4, 4)], full)),
        )?,
        Mode::ProtectLogAll => chart.draw_series(
            one.map(|p| EmptyElement::at(p) + plotters::element::Rectangle::new([(-4, -4), (4, 4)], grey)),
        )?,
        Mode::ProtectSnapshot => chart.draw_series(one.map(|p| TriangleMarker::new(p, 6, open)))?,
    };
    Ok(())
}

/// The marks' names, in a line above the plot.
fn legend(chart: &mut Chart<'_, '_>, modes: &[Mode], top: f64, width: f64) -> Done {
    for (n, m) in modes.iter().enumerate() {
        let x = width * (n as f64 + 0.3) / modes.len() as f64;
        mark(chart, *m, (x, top))?;
        let name = m.name();
        chart.draw_series(std::iter::once(
            EmptyElement::at((x, top)) + Text::new(name, (10, -6), FONT.into_font()),
        ))?;
    }
    Ok(())
}

fn label(row: &Row) -> String {
    format!("{} {}", row.scenario, row.connections)
}

/// Throughput of each mode as a share of its base's, with intervals; what is not resolved is drawn too, as an interval.
pub fn shares(rows: &[Row]) -> Result<String, String> {
    let modes = [
        Mode::NativeAll,
        Mode::Run,
        Mode::Record,
        Mode::RecordOff,
        Mode::RunOwn,
        Mode::Protect,
        Mode::ProtectLogAll,
        Mode::ProtectSnapshot,
    ];
    let there = |m: &Mode| rows.iter().any(|r| r.get(*m).is_some_and(|e| e.speed.is_some()));
    let modes: Vec<Mode> = modes.into_iter().filter(there).collect();
    let most = rows
        .iter()
        .flat_map(|r| &r.entries)
        .filter_map(|e| e.speed.map(|s| s.high))
        .fold(1.2, f64::max);
    let (width, top) = (rows.len() as f64, most * 1.15);
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(30)
            .y_label_area_size(55)
            .build_cartesian_2d(0.0..width, 0.0..top)?;
        let names: Vec<String> = rows.iter().map(label).collect();
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(0)
            .y_desc("throughput, share of its base")
            .label_style(FONT)
            .draw()?;
        chart.draw_series(LineSeries::new([(0.0, 1.0), (width, 1.0)], BLACK.stroke_width(1)))?;
        for (r, row) in rows.iter().enumerate() {
            let x0 = r as f64;
            chart.draw_series(std::iter::once(
                EmptyElement::at((x0, 0.0)) + Text::new(names[r].clone(), (4, 6), FONT.into_font()),
            ))?;
            chart.draw_series(LineSeries::new([(x0, 0.0), (x0, most)], RGBColor(200, 200, 200)))?;
            for (m, mode) in modes.iter().copied().enumerate() {
                let Some(s) = row.get(mode).and_then(|e| e.speed) else {
                    continue;
                };
                let x = x0 + (m as f64 + 1.0) / (modes.len() as f64 + 1.0);
                chart.draw_series(LineSeries::new([(x, s.low), (x, s.high)], BLACK.stroke_width(2)))?;
                if s.resolved() {
                    mark(&mut chart, mode, (x, s.median))?;
                }
            }
        }
        legend(&mut chart, &modes, top * 0.96, width)
    })
}

/// Half and 99 of 100 requests, all modes.
pub fn latencies(rows: &[Row]) -> Result<String, String> {
    let values = |r: &Row| -> Vec<f64> {
        let of = |e: &crate::report::Entry| [e.p50_us, e.p99_us];
        r.entries
            .iter()
            .flat_map(of)
            .flatten()
            .filter(|v| *v > 0.0)
            .collect()
    };
    let all: Vec<f64> = rows.iter().flat_map(values).map(f64::log10).collect();
    let low = all.iter().copied().fold(f64::MAX, f64::min).floor();
    let high = all.iter().copied().fold(f64::MIN, f64::max).ceil();
    if all.is_empty() {
        return Err("no latencies".to_string());
    }
    let (width, top) = (rows.len() as f64, high + 0.15 * (high - low));
    let there = |m: &Mode| rows.iter().any(|r| r.get(*m).is_some());
    let modes: Vec<Mode> = Mode::ALL.into_iter().filter(there).collect();
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..width, low..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(0)
            .y_labels((high - low) as usize + 1)
            .y_label_formatter(&|v| format!("{:.0} us", 10f64.powf(*v)))
            .y_desc("latency, p50 to p99")
            .label_style(FONT)
            .draw()?;
        for (r, row) in rows.iter().enumerate() {
            let x0 = r as f64;
            chart.draw_series(std::iter::once(
                EmptyElement::at((x0, low)) + Text::new(label(row), (4, 6), FONT.into_font()),
            ))?;
            chart.draw_series(LineSeries::new([(x0, low), (x0, high)], RGBColor(200, 200, 200)))?;
            for (m, e) in row.entries.iter().enumerate() {
                let x = x0 + (m as f64 + 1.0) / (row.entries.len() as f64 + 1.0);
                let (Some(p50), Some(p99)) = (e.p50_us, e.p99_us) else {
                    continue;
                };
                let (p50, p99) = (p50.max(0.1).log10(), p99.max(0.1).log10());
                chart.draw_series(LineSeries::new([(x, p50), (x, p99)], BLACK.stroke_width(2)))?;
                mark(&mut chart, e.mode, (x, p50))?;
            }
        }
        legend(&mut chart, &modes, top - 0.04 * (top - low), width)
    })
}

/// Answers of all connections around each kill.
pub fn takeovers(report: &Report) -> Result<String, String> {
    let all = &report.takeovers;
    let most = all.iter().flat_map(|t| &t.steps).copied().max().unwrap_or(1) as f64;
    let from = -1000.0;
    let end = from
        + all
            .iter()
            .map(|t| t.steps.len() as f64 * STEP_MS as f64)
            .fold(0.0, f64::max);
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(45)
            .y_label_area_size(55)
            .build_cartesian_2d(from..end, 0.0..most * 1.1)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc("ms since the kill")
            .y_desc(format!("answers in {STEP_MS} ms"))
            .label_style(FONT)
            .draw()?;
        chart.draw_series(LineSeries::new(
            [(0.0, 0.0), (0.0, most * 1.1)],
            BLACK.stroke_width(1),
        ))?;
        for (n, t) in all.iter().enumerate() {
            let points = t
                .steps
                .iter()
                .enumerate()
                .map(|(s, count)| (from + (s as f64 + 0.5) * STEP_MS as f64, *count as f64));
            // Each has its own dash.
            let dash = 2 + 4 * n as i32;
            chart.draw_series(DashedLineSeries::new(
                points,
                dash,
                2 * n as i32,
                BLACK.stroke_width(1),
            ))?;
        }
        Ok(())
    })
}

/// Each mode its line, by dash and width: the same in every plot of distributions.
fn dash(mode: Mode) -> (i32, i32, u32, RGBColor) {
    const GREY: RGBColor = RGBColor(140, 140, 140);
    match mode {
        Mode::Native => (1, 0, 3, BLACK),
        Mode::NativeAll => (1, 0, 1, GREY),
        Mode::Run => (10, 4, 2, BLACK),
        Mode::Record => (3, 3, 2, BLACK),
        Mode::RecordOff => (2, 8, 2, BLACK),
        Mode::NativeOwn => (1, 0, 3, GREY),
        Mode::RunOwn => (10, 4, 2, GREY),
        Mode::Protect => (18, 4, 1, BLACK),
        Mode::ProtectLogAll => (18, 4, 1, GREY),
        Mode::ProtectSnapshot => (6, 6, 1, BLACK),
    }
}

fn dashed(chart: &mut Chart<'_, '_>, mode: Mode, points: &[(f64, f64)]) -> Done {
    let (on, off, width, colour) = dash(mode);
    let style = colour.stroke_width(width);
    match off {
        0 => drop(chart.draw_series(LineSeries::new(points.to_vec(), style))?),
        _ => drop(chart.draw_series(DashedLineSeries::new(points.to_vec(), on, off, style))?),
    }
    Ok(())
}

/// Distribution of an open loop's latencies: which share took longer than so much.
pub fn distribution(row: &Row) -> Result<String, String> {
    let lines: Vec<(Mode, Vec<(f64, f64)>)> = row
        .entries
        .iter()
        .map(|e| {
            let point = |(p, us): &(f64, f64)| (us.max(0.1).log10(), -(1.0 - p / 100.0).log10());
            (e.mode, e.curve.iter().map(point).collect())
        })
        .collect();
    let xs = || lines.iter().flat_map(|(_, l)| l.iter().map(|p| p.0));
    let (low, high) = (xs().fold(f64::MAX, f64::min), xs().fold(f64::MIN, f64::max));
    if low > high {
        return Err("no latencies".to_string());
    }
    let (low, high) = (low - 0.05, high + 0.05);
    // Up to 99.99 %; the legend is above.
    let top = 4.0;
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(45)
            .y_label_area_size(80)
            .build_cartesian_2d(low..high, 0.0..top + 0.6)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_label_formatter(&|v| format!("{:.0}", 10f64.powf(*v)))
            .y_labels(5)
            .y_label_formatter(&|v| match 100.0 - 100.0 / 10f64.powf(*v) {
                // The legend is there.
                _ if *v > top => String::new(),
                p if p < 99.0 => format!("{p:.0} %"),
                p if p < 99.9 => format!("{p:.1} %"),
                p => format!("{p:.2} %"),
            })
            .x_desc("latency, us, logarithmic")
            .y_desc("share that took no longer")
            .label_style(FONT)
            .draw()?;
        let step = (high - low) / lines.len().max(1) as f64;
        for (n, (mode, points)) in lines.iter().enumerate() {
            dashed(&mut chart, *mode, points)?;
            let x = low + step * (n as f64 + 0.03);
            dashed(
                &mut chart,
                *mode,
                &[(x, top + 0.45), (x + 0.4 * step, top + 0.45)],
            )?;
            chart.draw_series(std::iter::once(
                EmptyElement::at((x, top + 0.45)) + Text::new(mode.name(), (0, 4), FONT.into_font()),
            ))?;
        }
        Ok(())
    })
}

/// A line with marks for each name, over something; axes from 0.
fn lines(x: &str, y: &str, all: &[(String, Vec<(f64, f64)>)]) -> Result<String, String> {
    let most =
        |f: &dyn Fn(&(f64, f64)) -> f64| all.iter().flat_map(|l| l.1.iter().map(f)).fold(0.0, f64::max);
    let (right, top) = (most(&|p| p.0), most(&|p| p.1));
    if right <= 0.0 || top <= 0.0 {
        return Err("one point is no curve".to_string());
    }
    draw(|area| {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(45)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..right * 1.25, 0.0..top * 1.1)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(x)
            .y_desc(y)
            .label_style(FONT)
            .draw()?;
        for (n, (name, points)) in all.iter().enumerate() {
            let style = BLACK.stroke_width(2);
            match n % 2 {
                0 => drop(chart.draw_series(LineSeries::new(points.clone(), style))?),
                _ => drop(chart.draw_series(DashedLineSeries::new(points.clone(), 6, 4, style))?),
            }
            chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, BLACK.filled())))?;
            if let Some(last) = points.last() {
                chart.draw_series(std::iter::once(
                    EmptyElement::at(*last)
                        + Text::new(name.clone(), (8, -12 + 14 * (n as i32 % 2)), FONT.into_font()),
                ))?;
            }
        }
        Ok(())
    })
}

/// Pause of a checkpoint, and time of a restore, by guest memory.
pub fn memory(report: &Report) -> Result<[String; 2], String> {
    let rows = report.memory_rows();
    let of = |f: &dyn Fn(&crate::curves::Memory) -> f64| -> Vec<(f64, f64)> {
        rows.iter().map(|m| (f64::from(m.mib), f(m))).collect()
    };
    let middle = of(&|m| crate::stats::median(&m.pause_ms).unwrap_or(0.0));
    let longest = of(&|m| m.pause_ms.iter().copied().fold(0.0, f64::max));
    let pauses = [("median".to_string(), middle), ("longest".to_string(), longest)];
    let restore = [("restore".to_string(), of(&|m| m.restore_ms))];
    Ok([
        lines("guest memory, MiB", "pause, ms", &pauses)?,
        lines("guest memory, MiB", "to the first answer, ms", &restore)?,
    ])
}

/// Latency by the distance of the backup.
pub fn commit(report: &Report) -> Result<String, String> {
    let rows = report.commit_rows();
    let mut connections: Vec<u32> = rows.iter().map(|c| c.connections).collect();
    connections.dedup();
    let line = |n: u32| {
        let points = rows.iter().filter(|c| c.connections == n);
        let points = points.map(|c| (f64::from(c.round_trip_us) / 1e3, c.p50_us / 1e3));
        (format!("p50, connections: {n}"), points.collect())
    };
    let all: Vec<(String, Vec<(f64, f64)>)> = connections.into_iter().map(line).collect();
    lines("added to the round trip to the backup, ms", "latency, ms", &all)
}
