//! Figures with their targets.

use crate::Outcome;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// A figure. `target` is absent where a figure only informs.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    pub value: f64,
    pub unit: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<bool>,
}

#[derive(Default)]
pub struct Report(Vec<(String, Figure)>);

const JSON: &str = "target/bench.json";
const MARKDOWN: &str = "docs/benchmarks.md";

impl Report {
    pub fn inform(&mut self, name: &str, value: f64, unit: &str) {
        self.add(name, Figure { value, unit: unit.into(), target: None, pass: None });
    }

    pub fn at_least(&mut self, name: &str, value: f64, unit: &str, target: f64) {
        let target_text = format!("at least {target}");
        // Against a peer that did nothing there is no ratio, so neither met nor missed.
        let pass = value.is_finite().then_some(value >= target);
        self.add(name, Figure { value, unit: unit.into(), target: Some(target_text), pass });
    }

    pub fn at_most(&mut self, name: &str, value: f64, unit: &str, target: f64) {
        let target_text = format!("at most {target}");
        self.add(name, Figure { value, unit: unit.into(), target: Some(target_text), pass: Some(value <= target) });
    }

    fn add(&mut self, name: &str, figure: Figure) {
        println!("  {}", line(name, &figure));
        self.0.push((name.to_owned(), figure));
    }

    pub fn all_pass(&self) -> bool {
        self.0.iter().all(|(_, figure)| figure.pass != Some(false))
    }

    pub fn print(&self) {
        println!("\nFigures with a target:");
        for (name, figure) in self.0.iter().filter(|(_, figure)| figure.pass.is_some()) {
            println!("  {}", line(name, figure));
        }
    }

    /// Adds to what other benchmarks have left in the file.
    pub fn write_json(&self) -> Outcome<()> {
        let mut all: BTreeMap<String, serde_json::Value> =
            std::fs::read_to_string(JSON).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        for (name, figure) in &self.0 {
            all.insert(name.clone(), serde_json::to_value(figure)?);
        }
        std::fs::create_dir_all("target")?;
        std::fs::write(JSON, serde_json::to_string_pretty(&all)?)?;
        println!("\nwritten to {JSON}");
        Ok(())
    }

    /// Writes a table for each measurement, in the place that is marked for it or, the first time, at the end. A
    /// measurement is what its figures' names begin with.
    pub fn write_markdown(&self) -> Outcome<()> {
        let mut text = std::fs::read_to_string(MARKDOWN)?;
        let of = |name: &str| name.split([',', ':']).next().unwrap_or(name).to_owned();
        let mut measurements: Vec<String> = self.0.iter().map(|(name, _)| of(name)).collect();
        measurements.dedup();
        for measurement in measurements {
            let (begin, end) = (
                format!("<!-- {measurement}: `make bench` with --record -->"),
                format!("<!-- end of {measurement} -->"),
            );
            let mut table = format!("\n{}\n\n| figure | value | target | |\n|---|---|---|---|\n", machine());
            for (name, figure) in self.0.iter().filter(|(name, _)| of(name) == measurement) {
                let verdict = match figure.pass {
                    Some(true) => "met",
                    Some(false) => "**missed**",
                    None => "",
                };
                let (value, target) = (round(figure.value), figure.target.as_deref().unwrap_or(""));
                writeln!(table, "| {name} | {value} {} | {target} | {verdict} |", figure.unit)?;
            }
            let section = format!("{begin}\n{table}\n{end}");
            text = replaced(&text, &begin, &end, &section)
                .unwrap_or_else(|| format!("{}\n\n## Figures: {measurement}\n\n{section}\n", text.trim_end()));
        }
        std::fs::write(MARKDOWN, text)?;
        println!("written to {MARKDOWN}");
        Ok(())
    }
}

/// A text with a new section from one mark to another; `None` where it has no such place.
fn replaced(text: &str, begin: &str, end: &str, section: &str) -> Option<String> {
    let (before, rest) = text.split_once(begin)?;
    Some(format!("{before}{section}{}", rest.split_once(end)?.1))
}

/// Puts a text between two marks of docs/benchmarks.md.
pub fn write_between(begin: &str, end: &str, figures: &str) -> Outcome<()> {
    let text = std::fs::read_to_string(MARKDOWN)?;
    let section = format!("{begin}\n{figures}\n{end}");
    let text = replaced(&text, begin, end, &section).ok_or("docs/benchmarks.md has no place for these figures")?;
    std::fs::write(MARKDOWN, text)?;
    println!("written to {MARKDOWN}");
    Ok(())
}

fn line(name: &str, figure: &Figure) -> String {
    let verdict = match (figure.pass, &figure.target) {
        (Some(true), Some(target)) => format!("  ok ({target})"),
        (Some(false), Some(target)) => format!("  MISSED ({target})"),
        _ => String::new(),
    };
    format!("{name}: {} {}{verdict}", round(figure.value), figure.unit)
}

pub fn round(value: f64) -> String {
    if !value.is_finite() {
        return "no".to_owned();
    }
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The machine, so that figures are not taken for those of another.
pub fn machine() -> String {
    let read = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix(key)?.split_once(':').map(|(_, value)| value.trim().to_owned()))
    };
    let cpu = read("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".into());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo", "MemTotal").unwrap_or_default();
    format!("Measured {} on {cores} cores of {cpu}, {memory} of memory.", jiff::Zoned::now().date())
}

/// The median; rounds are few and odd.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which `share` of the sorted values lie.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(((last as f64) * share).round() as usize).copied().unwrap_or(f64::NAN)
}
