//! The same measurements on each target. The targets take turns section by section, so that what else the machine
//! does falls on all.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::Options;
use crate::report::{Outcome, Report};
use crate::target::{Ended, Target};

/// Sections of `cuda-measure`, in the order of the table.
const SECTIONS: [&str; 7] = [
    "call",
    "launches",
    "chain",
    "copies",
    "gemm",
    "module",
    "processes",
];

/// Tokens that llama-bench reads and writes.
const LLAMA_TOKENS: [&str; 4] = ["-p", "512", "-n", "128"];

/// Samples of a measurement: by name in the order in which names come, then by target.
#[derive(Default)]
struct Samples(Vec<(String, BTreeMap<&'static str, Vec<f64>>)>);

impl Samples {
    fn add(&mut self, name: &str, target: &'static str, value: f64) {
        let at = match self.0.iter().position(|(n, _)| n == name) {
            Some(at) => at,
            None => {
                self.0.push((name.to_owned(), BTreeMap::new()));
                self.0.len() - 1
            }
        };
        self.0[at].1.entry(target).or_default().push(value);
    }
}

/// Measures.
pub fn run(options: &Options, targets: &[Target], report: &mut Report) -> Result<()> {
    let mut samples = Samples::default();
    for section in SECTIONS {
        for round in 0..options.rounds {
            for target in targets {
                let size = match (options.quick, target.name) {
                    (true, _) => "--quick",
                    // Products of large matrices would take it minutes.
                    (false, "soft") => "--small",
                    (false, _) => "--full",
                };
                let log = format!("measure-{section}-{round}");
                let ended = target.run("cuda-measure", &[section, size], &log)?;
                take(section, &ended, target.name, &mut samples, report);
            }
        }
    }
    llama(options, targets, &mut samples, report)?;
    for (name, by_target) in samples.0 {
        for (target, mut values) in by_target {
            report.value(&name, target, median(&mut values));
        }
    }
    Ok(())
}

/// Numbers become samples; a text says why there is none.
fn take(
    section: &str,
    ended: &Ended,
    target: &'static str,
    samples: &mut Samples,
    report: &mut Report,
) {
    let line = ended.stdout.lines().rfind(|line| line.starts_with('{'));
    let object = line.and_then(|line| serde_json::from_str::<Value>(line).ok());
    let (Some(Value::Object(object)), true) =
        (object, ended.status.is_some_and(|status| status.success()))
    else {
        let why = Outcome::Failed(ended.complaint.clone());
        report.case_once(&format!("measure {section}"), target, why);
        return;
    };
    for (name, value) in object {
        match (value.as_f64(), value.as_str()) {
            (Some(number), _) => samples.add(&name, target, number),
            (None, why) => {
                let why = why.unwrap_or("no number").to_owned();
                report.case_once(&format!("measure {name}"), target, Outcome::Skipped(why));
            }
        }
    }
}

/// Tokens per second of llama.cpp, where a folder with it was named: `llama-bench`, its libraries (with
/// `libggml-cuda.so`), and a model.
fn llama(
    options: &Options,
    targets: &[Target],
    samples: &mut Samples,
    report: &mut Report,
) -> Result<()> {
    let skip = |report: &mut Report, why: &str| {
        for target in targets {
            report.case_once("llama-bench", target.name, Outcome::Skipped(why.to_owned()));
        }
    };
    let Some(folder) = &options.llama else {
        skip(
            report,
            "no --llama DIR: the bundle has neither llama.cpp's CUDA library nor a model",
        );
        return Ok(());
    };
    let (program, model) = (folder.join("llama-bench"), gguf(folder));
    let (true, Some(model)) = (program.is_file(), model) else {
        skip(
            report,
            "--llama DIR: it lacks the file llama-bench or one that ends in .gguf",
        );
        return Ok(());
    };
    let model = model.to_string_lossy().into_owned();
    for round in 0..options.rounds {
        for target in targets {
            if target.name == "soft" {
                report.case_once(
                    "llama-bench",
                    "soft",
                    Outcome::Skipped("a GPU's work".to_owned()),
                );
                continue;
            }
            let mut arguments = vec!["-m", &*model, "-ngl", "99", "-r", "1", "-o", "json"];
            arguments.extend(LLAMA_TOKENS);
            let log = format!("llama-bench-{round}");
            let ended = target.run_file(&program, &arguments, folder, &log)?;
            let rates = rates(&ended.stdout);
            if rates.is_empty() {
                let why = Outcome::Failed(ended.complaint.clone());
                report.case_once("llama-bench", target.name, why);
            }
            for (name, rate) in rates {
                samples.add(name, target.name, rate);
            }
        }
    }
    Ok(())
}

fn gguf(folder: &Path) -> Option<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|p| p.extension().is_some_and(|e| e == "gguf"))
        .min()
}

/// Rates in llama-bench's JSON: prompt and decode.
fn rates(text: &str) -> Vec<(&'static str, f64)> {
    let Ok(Value::Array(tests)) = serde_json::from_str::<Value>(text) else {
        return Vec::new();
    };
    let rate = |test: &Value| {
        let name = match (test["n_prompt"].as_u64()?, test["n_gen"].as_u64()?) {
            (1.., 0) => "llama_prompt_tokens_per_s",
            (0, 1..) => "llama_decode_tokens_per_s",
            _ => return None,
        };
        Some((name, test["avg_ts"].as_f64()?))
    };
    tests.iter().filter_map(rate).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n == 0 {
        return f64::NAN;
    }
    (values[(n - 1) / 2] + values[n / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&mut []).is_nan());
    }

    #[test]
    fn rates_of_llama_bench() {
        let text = r#"[{"n_prompt": 512, "n_gen": 0, "avg_ts": 100.5}, {"n_prompt": 0, "n_gen": 128, "avg_ts": 9}]"#;
        assert_eq!(
            rates(text),
            [
                ("llama_prompt_tokens_per_s", 100.5),
                ("llama_decode_tokens_per_s", 9.0)
            ]
        );
        assert!(rates("no JSON").is_empty());
    }

    #[test]
    fn numbers_and_reasons_are_told_apart() {
        let (mut samples, mut report) = (Samples::default(), Report::new(Vec::new()));
        let ended = |stdout: &str, code: i32| Ended {
            stdout: stdout.to_owned(),
            status: Some(std::os::unix::process::ExitStatusExt::from_raw(code << 8)),
            complaint: "a complaint".to_owned(),
        };
        let good = ended("text\n{\"b\": 2.0, \"a\": \"not supported\"}\n", 0);
        take("copies", &good, "cuda", &mut samples, &mut report);
        take("copies", &good, "cuda", &mut samples, &mut report);
        assert_eq!(
            samples.0,
            [("b".to_owned(), BTreeMap::from([("cuda", vec![2.0, 2.0])]))]
        );
        assert_eq!(report.failed(), 0);
        take("copies", &ended("{}", 1), "cuda", &mut samples, &mut report);
        take(
            "copies",
            &ended("nothing", 0),
            "native",
            &mut samples,
            &mut report,
        );
        assert_eq!(report.failed(), 2);
    }
}
