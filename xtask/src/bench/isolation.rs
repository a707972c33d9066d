//! What a process of its own costs a session: the same measurements with and without, in turn.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use super::{Samples, median, shown, take};
use crate::device::{Backend, Device, Isolation};
use crate::local::Served;
use crate::{progress, run, shims};

/// A line of the table: what it shows, its name among the samples, and its unit.
const ROWS: &[(&str, &str, &str)] = &[
    ("waiting call, p50", "waiting_p50_ns", "ns"),
    ("waiting call, p99", "waiting_p99_ns", "ns"),
    ("posted call, p50", "posted_p50_ns", "ns"),
    (
        "posted launch over the ring, p50",
        "posted_launch_p50_ns",
        "ns",
    ),
    ("launch and execution, mean", "launch_and_execute_ns", "ns"),
    ("a program that makes one context", START, "ms"),
];

/// From the start to the end of a program that asks for the device's name.
const START: &str = "start_ms";

/// Measures on the backend, so often.
pub fn run(backend: Backend, runs: u32, quick: bool) -> Result<()> {
    let stage = shims::stage()?;
    let served = [Isolation::None, Isolation::Process].map(|isolation| {
        let device = Device {
            backend,
            isolation: Some(isolation),
            ..Device::default()
        };
        Served::start(&device)
    });
    let [none, process] = served;
    let served = [none?, process?];
    let mut samples = [Samples::new(), Samples::new()];
    let step = progress::step("bench: isolation");
    for _ in 0..runs {
        for (served, samples) in served.iter().zip(&mut samples) {
            let mut program = Command::new(stage.join("bin/vgpu-bench"));
            program.arg("rings").arg(stage.join("ptx"));
            if quick {
                program.arg("--quick");
            }
            take(samples, &run::stdout(program.envs(served.environment()))?)?;
            let mut program = Command::new(stage.join("bin/cuda-kernels"));
            program.arg("--device").envs(served.environment());
            let began = Instant::now();
            run::stdout(&mut program).context("a program that makes one context")?;
            let took = began.elapsed().as_secs_f64() * 1e3;
            samples.entry(START.to_owned()).or_default().push(took);
        }
    }
    step.done("");
    print!("{}", table(&samples));
    Ok(())
}

fn table([none, process]: &[Samples; 2]) -> String {
    let mut text = String::from(
        "| measurement | unit | none | process | process/none |\n|---|---|--:|--:|--:|\n",
    );
    for (about, name, unit) in ROWS {
        let (without, with) = (median(none, name), median(process, name));
        let ratio = without.zip(with).map(|(without, with)| with / without);
        text.push_str(&format!(
            "| {about} | {unit} | {} | {} | {} |\n",
            shown(without),
            shown(with),
            shown(ratio)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stand_beside_each_other() {
        let mut samples = [Samples::new(), Samples::new()];
        for (samples, value) in samples.iter_mut().zip([100, 150]) {
            take(samples, &format!(r#"{{"waiting_p50_ns": {value}}}"#)).expect("an object");
        }
        let text = table(&samples);
        assert!(
            text.contains("| waiting call, p50 | ns | 100 | 150 | 1.50 |"),
            "{text}"
        );
    }
}
