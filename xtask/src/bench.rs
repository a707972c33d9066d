//! `cargo xtask bench`: calls, copies and a kernel, locally and in a guest, as one table; with
//! `--kernels` the software GPU beside PoCL; with `--llm` a language model beside the processor.

mod llm;

mod isolation;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::device::{Backend, Device};
use crate::guest::{self, Input, Options, Output};
use crate::interrupt::Directory;
use crate::local::Served;
use crate::{apt, nvcc, progress, qemu, run, shims, workspace};

/// Measures calls and copies through the device, locally and in a guest
///
/// Every number is the median of the runs, and stands beside its floor in the same run: a word that goes to another
/// process and back for a call (in the guest: to the host, over QEMU's ivshmem), memcpy for copies, a plain loop for the
/// matrix product. Let nothing else run meanwhile.
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

    /// Measures kernels on the software GPU beside PoCL instead
    #[arg(long)]
    kernels: bool,

    /// Measures a language model with llama.cpp on the device beside llama.cpp on the processor instead
    #[arg(long, conflicts_with = "kernels")]
    llm: bool,

    /// The language model [default: SmolLM2-135M-Instruct, 98 MB]
    #[arg(long, value_name = "GGUF", requires = "llm")]
    model: Option<PathBuf>,

    /// Measures what a process of its own costs a session instead
    #[arg(long, conflicts_with = "kernels")]
    isolation: bool,
}

/// Debian's PoCL and the loader that finds it.
const POCL: &[&str] = &["pocl-opencl-icd", "ocl-icd-libopencl1"];

/// The oldest architecture that has all instructions of the measured kernels.
const KERNELS_ARCHITECTURE: &str = "-arch=compute_80";

/// Measurements by name: one number per run.
type Samples = BTreeMap<String, Vec<f64>>;

/// The parts of the program.
const PARTS: [&str; 3] = ["rings", "cuda", "scale"];

/// How long nothing is done while the host's wake-ups are counted.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// A line of the table.
struct Row {
    /// What it shows.
    about: &'static str,
    /// Its name in the program's output.
    name: &'static str,
    unit: &'static str,
    /// Name of what it is compared with, in the same run.
    floor: Option<&'static str>,
    /// What is aimed at, of the number or of its ratio to the floor.
    goal: &'static str,
}

const fn row(
    about: &'static str,
    name: &'static str,
    unit: &'static str,
    floor: Option<&'static str>,
    goal: &'static str,
) -> Row {
    Row {
        about,
        name,
        unit,
        floor,
        goal,
    }
}

const ROWS: &[Row] = &[
    row(
        "waiting call, p50",
        "waiting_p50_ns",
        "ns",
        Some("pingpong_p50_ns"),
        "≤ floor + 400; guest ≤ 3000",
    ),
    row(
        "waiting call, p99",
        "waiting_p99_ns",
        "ns",
        Some("pingpong_p99_ns"),
        "",
    ),
    row(
        "waiting call after 5 ms, p50",
        "parked_p50_ns",
        "ns",
        Some("woken_p50_ns"),
        "≤ 15000",
    ),
    row("posted call, p50", "posted_p50_ns", "ns", None, ""),
    row("posted call, p99", "posted_p99_ns", "ns", None, ""),
    row(
        "posted launch over the ring, p50",
        "posted_launch_p50_ns",
        "ns",
        None,
        "",
    ),
    row(
        "posted launch, guest's CPU time",
        "posted_launch_cpu_ns",
        "ns",
        None,
        "≤ 150",
    ),
    row(
        "cuLaunchKernel, p50",
        "cu_launch_kernel_p50_ns",
        "ns",
        None,
        "",
    ),
    row(
        "cuLaunchKernel, p99",
        "cu_launch_kernel_p99_ns",
        "ns",
        None,
        "",
    ),
    row(
        "empty launches and synchronize, each",
        "launch_and_execute_ns",
        "ns",
        None,
        "≤ 500",
    ),
    row(
        "doorbells per 1000 launches",
        "doorbells_per_1000_launches",
        "",
        None,
        "≤ 5",
    ),
    row("launches of one process", "rate_one_per_s", "1/s", None, ""),
    row(
        "launches of 8 processes at once",
        "rate_many_per_s",
        "1/s",
        Some("rate_one_per_s"),
        "ratio ≥ 1",
    ),
    row(
        "host's wake-ups in 5 s of idling",
        "idle_wakeups",
        "",
        None,
        "0",
    ),
    row(
        "host to device, 4 KiB",
        "h2d_4k_gbps",
        "GB/s",
        Some("memcpy_4k_gbps"),
        "",
    ),
    row(
        "host to device, 1 MiB",
        "h2d_1m_gbps",
        "GB/s",
        Some("memcpy_1m_gbps"),
        "ratio ≥ 0.8",
    ),
    row(
        "host to device, 64 MiB",
        "h2d_64m_gbps",
        "GB/s",
        Some("memcpy_64m_gbps"),
        "ratio ≥ 0.8",
    ),
    row(
        "device to host, 4 KiB",
        "d2h_4k_gbps",
        "GB/s",
        Some("memcpy_4k_gbps"),
        "",
    ),
    row(
        "device to host, 1 MiB",
        "d2h_1m_gbps",
        "GB/s",
        Some("memcpy_1m_gbps"),
        "ratio ≥ 0.8",
    ),
    row(
        "device to host, 64 MiB",
        "d2h_64m_gbps",
        "GB/s",
        Some("memcpy_64m_gbps"),
        "ratio ≥ 0.8",
    ),
    row(
        "tiled sgemm 512³",
        "sgemm_512_gflops",
        "GFLOP/s",
        Some("sgemm_512_plain_gflops"),
        "",
    ),
];

impl Bench {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        if self.kernels {
            return self.kernels();
        }
        if self.llm {
            let runs = if self.quick { 1 } else { self.runs };
            llm::run(self.backend, runs, self.model.as_ref(), !self.no_vm)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.isolation {
            nvcc::kernels()?;
            isolation::run(self.backend, self.runs, self.quick)?;
            return Ok(ExitCode::SUCCESS);
        }
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

    /// The software GPU's kernels beside those of an OpenCL device.
    fn kernels(&self) -> Result<ExitCode> {
        apt::ensure(POCL)?;
        let from = workspace::root().join("tests/bench-kernels/kernels");
        let ptx = nvcc::Toolkit::fetch()?.ptx(&from.join("kernels.cu"), &[KERNELS_ARCHITECTURE])?;
        let mut program = Command::new(env!("CARGO"));
        program
            .args(["run", "--release", "--package", "vgpu-bench-kernels", "--"])
            .arg(ptx)
            .arg(from.join("kernels.cl"))
            .args(["--forms", "--runs", &(3 * self.runs).to_string()])
            .current_dir(workspace::root());
        print!("{}", run::stdout(&mut program)?);
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
        let woken = idle_wakeups(&stage.join("bin/vgpu-bench"), &served)?;
        samples.insert("idle_wakeups".to_owned(), vec![woken as f64]);
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
        let directory = Directory::new("vgpu-bench")?;
        let floor = directory.path().join("floor");
        let _answers = Answers::start(&floor)?;
        let backend = format!(
            "memory-backend-file,id=floor,share=on,size={FLOOR_BYTES},mem-path={}",
            floor.display()
        );
        let options = Options {
            cwd: Some("/".into()),
            no_build: true,
            device: self.device(),
            qemu_args: [
                "-object",
                &backend,
                "-device",
                "ivshmem-plain,memdev=floor,addr=0x10",
            ]
            .map(str::to_owned)
            .to_vec(),
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

/// Length of the memory over which the guest's floor is measured, as `vgpu-bench` has it.
const FLOOR_BYTES: u64 = 1 << 20;

/// A process of the host that answers what the guest asks over shared memory; ended on drop.
struct Answers(Child);

impl Answers {
    fn start(memory: &Path) -> Result<Self> {
        std::fs::File::create(memory)?.set_len(FLOOR_BYTES)?;
        let mut program = Command::new(shims::stage()?.join("bin/vgpu-bench"));
        let child = program.arg("pong").arg(memory).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often the host's threads are switched to while a process with an open context does nothing.
fn idle_wakeups(program: &Path, served: &Served) -> Result<u64> {
    let mut idle = Command::new(program)
        .arg("hold")
        .envs(served.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = idle.stdout.take().context("vgpu-bench has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    ensure!(line.trim() == "ready", "vgpu-bench hold says {line:?}");
    // What was going on comes to its end.
    std::thread::sleep(Duration::from_millis(500));
    let before = switches(served.pid())?;
    std::thread::sleep(IDLE_TIME);
    let after = switches(served.pid())?;
    drop(idle.stdin.take());
    idle.wait()?;
    Ok(after.saturating_sub(before))
}

/// Times that the threads of a process were given a core or gave it away (proc(5)).
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok());
        sum += counts.sum::<u64>();
    }
    Ok(sum)
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
        "| {:<36} | {:<7} | {:<27} | {:>10} | {:>10} | {:>11} | {:>11} | {:>12} | {:>11} |\n",
        "measurement",
        "unit",
        "goal",
        "floor",
        "local",
        "local/floor",
        "guest floor",
        title,
        "guest/floor"
    );
    text.push_str("|---|---|---|--:|--:|--:|--:|--:|--:|\n");
    for row in ROWS {
        let side = |samples: &Samples| {
            let floor = row.floor.and_then(|floor| median(samples, floor));
            (floor, median(samples, row.name))
        };
        let ((floor, here), (guest_floor, there)) = (side(local), side(guest));
        if here.is_none() && there.is_none() {
            continue;
        }
        let ratio =
            |a: Option<f64>, b: Option<f64>| Some(a? / b?).filter(|ratio| ratio.is_finite());
        text.push_str(&format!(
            "| {:<36} | {:<7} | {:<27} | {:>10} | {:>10} | {:>11} | {:>11} | {:>12} | {:>11} |\n",
            row.about,
            row.unit,
            row.goal,
            shown(floor),
            shown(here),
            shown(ratio(here, floor)),
            shown(guest_floor),
            shown(there),
            shown(ratio(there, guest_floor)),
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
    fn table_has_ratios_to_the_floor_of_the_same_run() {
        let mut local = Samples::new();
        take(
            &mut local,
            r#"{"h2d_1m_gbps": 5, "memcpy_1m_gbps": 10, "posted_p50_ns": 200}"#,
        )
        .unwrap();
        let mut guest = Samples::new();
        take(&mut guest, r#"{"h2d_1m_gbps": 2.5, "memcpy_1m_gbps": 20}"#).unwrap();
        let text = table(&local, &guest, "TCG");
        let row = text
            .lines()
            .find(|line| line.contains("host to device, 1 MiB"))
            .unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells[4..10],
            ["10.0", "5.00", "0.50", "20.0", "2.50", "0.12"]
        );
        assert_eq!(text.lines().count(), 4);
    }
}
