//! `cargo xtask bench`: calls, copies and a kernel, locally and in a guest, as one table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::device::{Backend, Device};
use crate::guest::{self, Input, Options, Output};
use crate::local::Served;
use crate::{nvcc, progress, qemu, run, shims};

/// Measures calls and copies through the device, locally and in a guest
///
/// Every number is the median of the runs. A ratio stands beside the floor of the same run: memcpy for copies,
/// a plain loop for the matrix product, the local number for the guest.
#[derive(Args)]
pub struct Bench {
    /// How often each program runs
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,

    /// Fewer repetitions inside a run
    #[arg(long)]
    quick: bool,

    /// Measures without a guest
    #[arg(long)]
    no_vm: bool,

    /// What computes
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,
}

/// Measurements by name: one number per run.
type Samples = BTreeMap<String, Vec<f64>>;

/// The two parts of the program.
const PARTS: [&str; 2] = ["rings", "cuda"];

/// A line of the table: what it shows, its name in the program's output, its unit, and its floor's name.
const ROWS: &[(&str, &str, &str, Option<&str>)] = &[
    ("waiting call, p50", "waiting_p50_ns", "ns", None),
    ("waiting call, p99", "waiting_p99_ns", "ns", None),
    ("posted call, p50", "posted_p50_ns", "ns", None),
    ("posted call, p99", "posted_p99_ns", "ns", None),
    (
        "posted launch over the ring, p50",
        "posted_launch_p50_ns",
        "ns",
        None,
    ),
    ("cuLaunchKernel, p50", "cu_launch_kernel_p50_ns", "ns", None),
    ("cuLaunchKernel, p99", "cu_launch_kernel_p99_ns", "ns", None),
    (
        "launch and execution, mean",
        "launch_and_execute_ns",
        "ns",
        None,
    ),
    (
        "doorbells per 1000 launches",
        "doorbells_per_1000_launches",
        "",
        None,
    ),
    (
        "host to device, 4 KiB",
        "h2d_4k_gbps",
        "GB/s",
        Some("memcpy_4k_gbps"),
    ),
    (
        "host to device, 1 MiB",
        "h2d_1m_gbps",
        "GB/s",
        Some("memcpy_1m_gbps"),
    ),
    (
        "host to device, 64 MiB",
        "h2d_64m_gbps",
        "GB/s",
        Some("memcpy_64m_gbps"),
    ),
    (
        "device to host, 4 KiB",
        "d2h_4k_gbps",
        "GB/s",
        Some("memcpy_4k_gbps"),
    ),
    (
        "device to host, 1 MiB",
        "d2h_1m_gbps",
        "GB/s",
        Some("memcpy_1m_gbps"),
    ),
    (
        "device to host, 64 MiB",
        "d2h_64m_gbps",
        "GB/s",
        Some("memcpy_64m_gbps"),
    ),
    (
        "tiled sgemm 512³",
        "sgemm_512_gflops",
        "GFLOP/s",
        Some("sgemm_512_plain_gflops"),
    ),
];

impl Bench {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        // Nothing is built while something is measured.
        nvcc::kernels()?;
        shims::stage()?;
        if !self.no_vm {
            qemu::installed()?;
        }
        let local = self.local()?;
        let (guest, accel) = if self.no_vm {
            (Samples::new(), String::new())
        } else {
            self.guest()?
        };
        print!("{}", table(&local, &guest, &accel));
        Ok(ExitCode::SUCCESS)
    }

    fn device(&self) -> Device {
        Device {
            backend: self.backend,
            ..Device::default()
        }
    }

    fn local(&self) -> Result<Samples> {
        let stage = shims::stage()?;
        let served = Served::start(&self.device())?;
        let step = progress::step("bench: local");
        let mut samples = Samples::new();
        for _ in 0..self.runs {
            for part in PARTS {
                let mut program = Command::new(stage.join("bin/vgpu-bench"));
                program
                    .arg(part)
                    .arg(stage.join("ptx"))
                    .envs(served.environment());
                if self.quick {
                    program.arg("--quick");
                }
                take(&mut samples, &run::stdout(&mut program)?)?;
            }
        }
        step.done("");
        Ok(samples)
    }

    /// The same in a guest, and what ran it.
    fn guest(&self) -> Result<(Samples, String)> {
        let mut script = String::from("set -e\n");
        for _ in 0..self.runs {
            for part in PARTS {
                let quick = if self.quick { " --quick" } else { "" };
                script.push_str(&format!("vgpu-bench {part} /opt/vgpu-stub/ptx{quick}\n"));
            }
        }
        let words = ["sh", "-c", &script].map(OsString::from);
        let options = Options {
            cwd: Some("/".into()),
            no_build: true,
            device: self.device(),
            ..Options::default()
        };
        let step = progress::step("bench: guest");
        let outcome = guest::run(&options, &words, Input::Null, &Output::Capture)?;
        ensure!(
            outcome.status == 0,
            "in the guest: exit status {}\n{}",
            outcome.status,
            outcome.stdout
        );
        step.done(outcome.accel.name());
        let mut samples = Samples::new();
        for line in outcome.stdout.lines() {
            take(&mut samples, line)?;
        }
        Ok((samples, outcome.accel.name().to_owned()))
    }
}

/// Adds one line of the program's output.
fn take(samples: &mut Samples, line: &str) -> Result<()> {
    let numbers: BTreeMap<String, f64> = serde_json::from_str(line.trim())
        .with_context(|| format!("not an object of numbers: {line}"))?;
    for (name, number) in numbers {
        samples.entry(name).or_default().push(number);
    }
    Ok(())
}

/// The middle one, or the mean of the two in the middle.
fn median(samples: &Samples, name: &str) -> Option<f64> {
    let mut sorted = samples.get(name)?.clone();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

fn table(local: &Samples, guest: &Samples, accel: &str) -> String {
    let title = if accel.is_empty() {
        "guest".to_owned()
    } else {
        format!("guest ({accel})")
    };
    let mut text = format!(
        "| {:<33} | {:<7} | {:>10} | {:>10} | {:>11} | {:>12} | {:>11} |\n",
        "measurement", "unit", "floor", "local", "local/floor", title, "guest/local"
    );
    text.push_str("|---|---|--:|--:|--:|--:|--:|\n");
    for (about, name, unit, floor) in ROWS {
        let (here, there) = (median(local, name), median(guest, name));
        let floor = floor.and_then(|floor| median(local, floor));
        if here.is_none() && there.is_none() {
            continue;
        }
        let ratio =
            |a: Option<f64>, b: Option<f64>| Some(a? / b?).filter(|ratio| ratio.is_finite());
        text.push_str(&format!(
            "| {about:<33} | {unit:<7} | {:>10} | {:>10} | {:>11} | {:>12} | {:>11} |\n",
            shown(floor),
            shown(here),
            shown(ratio(here, floor)),
            shown(there),
            shown(ratio(there, here)),
        ));
    }
    text
}

/// Three significant digits.
fn shown(number: Option<f64>) -> String {
    match number {
        None => String::new(),
        Some(number) if number.abs() >= 100.0 => format!("{number:.0}"),
        Some(number) if number.abs() >= 10.0 => format!("{number:.1}"),
        Some(number) => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        let mut samples = Samples::new();
        for line in [
            r#"{"a": 5, "b": 1}"#,
            r#"{"a": 1, "b": 2.0}"#,
            r#"{"a": 3}"#,
        ] {
            take(&mut samples, line).unwrap();
        }
        assert_eq!(
            (median(&samples, "a"), median(&samples, "b")),
            (Some(3.0), Some(1.5))
        );
        assert_eq!(median(&samples, "c"), None);
        assert!(take(&mut samples, "no JSON").is_err());
    }

    #[test]
    fn table_has_ratios_to_the_floor_and_to_the_local_number() {
        let mut local = Samples::new();
        take(
            &mut local,
            r#"{"h2d_1m_gbps": 5, "memcpy_1m_gbps": 10, "posted_p50_ns": 200}"#,
        )
        .unwrap();
        let mut guest = Samples::new();
        take(&mut guest, r#"{"h2d_1m_gbps": 2.5}"#).unwrap();
        let text = table(&local, &guest, "TCG");
        let row = text
            .lines()
            .find(|line| line.contains("host to device, 1 MiB"))
            .unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[3..8], ["10.0", "5.00", "0.50", "2.50", "0.50"]);
        assert_eq!(text.lines().count(), 4);
    }
}
