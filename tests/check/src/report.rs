//! The table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::target::NAMES;

/// The result of one case on one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not as it should be.
    Failed(String),
    /// Could not be tried.
    Skipped(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Passed => "pass",
            Outcome::Failed(_) => "FAIL",
            Outcome::Skipped(_) => "skip",
        }
    }

    fn why(&self) -> &str {
        match self {
            Outcome::Passed => "",
            Outcome::Failed(why) | Outcome::Skipped(why) => why,
        }
    }
}

/// What a measurement on `cuda` has to be of that on `native`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Goal {
    /// Of rates.
    AtLeast(f64),
    /// Of times.
    AtMost(f64),
}

impl Goal {
    /// By the measurement's name; `docs/benchmarks/gpu.md` lists them.
    fn of(measurement: &str) -> Option<Goal> {
        let has = |word| measurement.contains(word);
        if has("in a VM") || has("two VMs") {
            // There is nothing native beside it.
            return None;
        }
        Some(match () {
            () if measurement.starts_with("launches_") => Goal::AtLeast(0.90),
            () if measurement.starts_with("graph_kernels_") => Goal::AtLeast(0.98),
            () if measurement.starts_with("dependent_launches_") => Goal::AtMost(1.11),
            () if has("_pageable_") => Goal::AtLeast(0.90),
            () if has("_pinned_") => Goal::AtLeast(0.95),
            () if has("gemm_") => Goal::AtLeast(0.99),
            () if measurement.starts_with("llama_decode_") => Goal::AtLeast(0.95),
            () => return None,
        })
    }

    fn is_met(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Goal::AtLeast(least) => write!(f, "≥ {least:.2}"),
            Goal::AtMost(most) => write!(f, "≤ {most:.2}"),
        }
    }
}

/// Everything that was found out.
pub struct Report {
    facts: Vec<(String, String)>,
    /// The device's name by target, or why there is none.
    targets: Vec<(&'static str, Result<String, String>)>,
    cases: Vec<(String, &'static str, Outcome)>,
    values: Vec<(String, &'static str, f64)>,
}

impl Report {
    /// A report about a machine.
    pub fn new(facts: Vec<(&'static str, String)>) -> Report {
        Report {
            facts: facts
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            targets: Vec::new(),
            cases: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Adds a fact about the machine.
    pub fn fact(&mut self, name: &str, value: String) {
        println!("{name}: {value}");
        self.facts.push((name.to_owned(), value));
    }

    /// Prints what the machine is.
    pub fn show_machine(&self) {
        for (name, value) in &self.facts {
            println!("{name}: {value}");
        }
    }

    /// Says what a target is, or why it is missing.
    pub fn target(&mut self, name: &'static str, device: Result<String, String>) {
        match &device {
            Ok(device) => println!("target {name}: {device}"),
            Err(why) => println!("target {name}: skipped: {why}"),
        }
        self.targets.push((name, device));
    }

    /// Why a target is missing.
    pub fn missing(&self, name: &str) -> Option<String> {
        let found = self.targets.iter().find(|(target, _)| *target == name);
        found.and_then(|(_, device)| device.as_ref().err().cloned())
    }

    /// Adds a case's result, and prints it unless it passed.
    pub fn case(&mut self, name: &str, target: &'static str, outcome: Outcome) {
        if outcome != Outcome::Passed {
            println!("{} {name} on {target}: {}", outcome.word(), outcome.why());
        }
        self.cases.push((name.to_owned(), target, outcome));
    }

    /// Adds a case's result unless the target has one of this name: what is tried in several rounds counts once, and
    /// a failure replaces what came before.
    pub fn case_once(&mut self, name: &str, target: &'static str, outcome: Outcome) {
        let failed = matches!(outcome, Outcome::Failed(_));
        let known = |(n, t, _): &(String, &'static str, Outcome)| n == name && *t == target;
        match self.cases.iter().position(known) {
            None => self.case(name, target, outcome),
            Some(at) if failed => self.cases[at].2 = outcome,
            Some(_) => {}
        }
    }

    /// Adds a measurement.
    pub fn value(&mut self, name: &str, target: &'static str, value: f64) {
        self.values.push((name.to_owned(), target, value));
    }

    /// How many cases failed.
    pub fn failed(&self) -> usize {
        let failed = |(_, _, outcome): &&(_, _, Outcome)| matches!(outcome, Outcome::Failed(_));
        self.cases.iter().filter(failed).count()
    }

    /// Writes `results.md` and `results.json`, and prints the first.
    pub fn write(&self, out: &Path) -> Result<()> {
        let markdown = self.markdown();
        println!("\n{markdown}");
        let write = |name: &str, text: String| {
            let path = out.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write("results.md", markdown)?;
        write("results.json", format!("{:#}\n", self.json()))
    }

    /// Names in the order of their first result, each once.
    fn names<'a>(rows: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
        let mut names = Vec::new();
        for name in rows {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn measured(&self, name: &str, target: &str) -> Option<f64> {
        let found = self
            .values
            .iter()
            .find(|(n, t, _)| n == name && *t == target);
        found.map(|(_, _, value)| *value)
    }

    /// `cuda` beside `native`.
    fn ratio(&self, name: &str) -> Option<f64> {
        match (self.measured(name, "cuda"), self.measured(name, "native")) {
            (Some(cuda), Some(native)) if native != 0.0 => Some(cuda / native),
            _ => None,
        }
    }

    fn markdown(&self) -> String {
        let mut text = String::from("# vgpu-stub on this machine\n\n| what | |\n|---|---|\n");
        for (name, value) in &self.facts {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        for (name, device) in &self.targets {
            let device = match device {
                Ok(device) => device.clone(),
                Err(why) => format!("skipped: {why}"),
            };
            let _ = writeln!(text, "| column `{name}` | {device} |");
        }
        let count = |word| {
            self.cases
                .iter()
                .filter(|(_, _, o)| o.word() == word)
                .count()
        };
        let _ = writeln!(
            text,
            "\n{} passed, {} failed, {} skipped.\n",
            count("pass"),
            count("FAIL"),
            count("skip")
        );
        let _ = writeln!(
            text,
            "| case | {} | vm |\n|---|---|---|---|---|",
            NAMES.join(" | ")
        );
        for name in Report::names(self.cases.iter().map(|(name, _, _)| name)) {
            let cell = |target: &str| {
                let found = self
                    .cases
                    .iter()
                    .find(|(n, t, _)| n == name && *t == target);
                found.map_or_else(String::new, |(_, _, outcome)| match outcome.why() {
                    "" => outcome.word().to_owned(),
                    why => format!("{}: {}", outcome.word(), why.replace('|', "/")),
                })
            };
            let cells: Vec<_> = NAMES
                .iter()
                .chain(&["vm"])
                .map(|target| cell(target))
                .collect();
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        }
        if !self.values.is_empty() {
            let _ = writeln!(
                text,
                "\n| measurement (median) | {} | cuda / native | goal |\n|---|---|---|---|---|---|",
                NAMES.join(" | ")
            );
        }
        for name in Report::names(self.values.iter().map(|(name, _, _)| name)) {
            let cells: Vec<_> = NAMES
                .iter()
                .map(|target| {
                    self.measured(name, target)
                        .map_or_else(String::new, |v| format!("{v:.3}"))
                })
                .collect();
            let ratio = self.ratio(name);
            let shown = ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}"));
            let goal = Goal::of(name).map_or_else(String::new, |goal| match ratio {
                None => goal.to_string(),
                Some(ratio) if goal.is_met(ratio) => format!("{goal}: met"),
                Some(_) => format!("{goal}: **missed**"),
            });
            let _ = writeln!(
                text,
                "| {name} | {} | {shown} | {goal} |",
                cells.join(" | ")
            );
        }
        text
    }

    fn json(&self) -> Value {
        let facts: Map<_, _> = self
            .facts
            .iter()
            .map(|(n, v)| (n.clone(), json!(v)))
            .collect();
        let targets: Map<_, _> = self
            .targets
            .iter()
            .map(|(name, device)| {
                let value = match device {
                    Ok(device) => json!({ "device": device }),
                    Err(why) => json!({ "skipped": why }),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        let cases: Vec<_> = self
            .cases
            .iter()
            .map(|(name, target, outcome)| {
                json!({"case": name, "target": target, "outcome": outcome.word(), "why": outcome.why()})
            })
            .collect();
        let values: Vec<_> = self
            .values
            .iter()
            .map(|(name, target, value)| json!({"measurement": name, "target": target, "median": value}))
            .collect();
        let names = Report::names(self.values.iter().map(|(name, _, _)| name));
        let judged = names.into_iter().filter_map(|name| {
            let (goal, ratio) = (Goal::of(name)?, self.ratio(name)?);
            Some(json!({
                "measurement": name,
                "ratio": ratio,
                "goal": goal.to_string(),
                "met": goal.is_met(ratio),
            }))
        });
        let goals: Vec<_> = judged.collect();
        json!({
            "machine": facts,
            "targets": targets,
            "cases": cases,
            "measurements": values,
            "goals": goals,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_target_and_a_failure_stand_in_both_forms() {
        let mut report = Report::new(vec![("processor", "one".to_owned())]);
        report.target("soft", Ok("software".to_owned()));
        report.target("cuda", Err("no GPU".to_owned()));
        report.case("a", "soft", Outcome::Passed);
        report.case("b", "soft", Outcome::Failed("1 | 2".to_owned()));
        report.value("speed", "cuda", 3.0);
        report.value("speed", "native", 4.0);
        assert_eq!(report.failed(), 1);
        assert_eq!(report.missing("cuda").as_deref(), Some("no GPU"));
        assert_eq!(report.missing("soft"), None);
        let text = report.markdown();
        assert!(
            text.contains("| column `cuda` | skipped: no GPU |"),
            "{text}"
        );
        assert!(text.contains("| b | FAIL: 1 / 2 |  |  |  |"), "{text}");
        assert!(
            text.contains("| speed |  | 3.000 | 4.000 | 0.750 |  |"),
            "{text}"
        );
        assert_eq!(report.json()["cases"][1]["outcome"], "FAIL");
    }

    #[test]
    fn goals_are_judged_where_both_columns_are_there() {
        let mut report = Report::new(Vec::new());
        for (name, cuda, native) in [
            ("launches_1_streams_per_s", 90.0, 100.0),
            ("d2h_pinned_64m_gbps", 94.0, 100.0),
            ("dependent_launches_10000_ms", 1.12, 1.0),
        ] {
            report.value(name, "cuda", cuda);
            report.value(name, "native", native);
        }
        report.value("sgemm_1024_tflops", "native", 1.0);
        let text = report.markdown();
        for line in [
            "| launches_1_streams_per_s |  | 90.000 | 100.000 | 0.900 | ≥ 0.90: met |",
            "| d2h_pinned_64m_gbps |  | 94.000 | 100.000 | 0.940 | ≥ 0.95: **missed** |",
            "| dependent_launches_10000_ms |  | 1.120 | 1.000 | 1.120 | ≤ 1.11: **missed** |",
            "| sgemm_1024_tflops |  |  | 1.000 |  | ≥ 0.99 |",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        let goals = report.json()["goals"].clone();
        assert_eq!(goals.as_array().map(Vec::len), Some(3));
        assert_eq!(goals[0]["met"], true);
        assert_eq!(goals[1]["met"], false);
    }

    /// The page with the empty table has the rows that a run has, with their goals.
    #[test]
    fn the_page_lists_each_measurement_with_its_goal() {
        let page = include_str!("../../../docs/benchmarks/gpu.md");
        let mut rows = 0;
        for line in page.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (names, goal) = (cells[1], cells[cells.len() - 2]);
            for name in names.split(", ") {
                let name = name.trim_matches('`');
                let told = Goal::of(name).map_or_else(|| "–".to_owned(), |goal| goal.to_string());
                assert_eq!(goal, told, "{name}");
                rows += 1;
            }
        }
        assert!(rows >= 40, "{rows} measurements");
    }
}
