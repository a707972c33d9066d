//! `cargo xtask test`: every test there is, with what each stage needs set up before.

mod tally;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::device::Device;
use crate::local::Served;
use crate::{apt, interrupt, nvcc, progress, qemu, run, shims, workspace};
use tally::Tally;

/// A stage that compiles much may take so long; one that takes longer hangs.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);

/// The same for a stage of tests against QEMU.
const QEMU_LIMIT: Duration = Duration::from_secs(12 * 60);

/// Crates whose tests need a QEMU with the device: they have stages of their own.
const QEMU_CRATES: [&str; 2] = ["vgpu-qtest", "vgpu-vm-tests"];

/// Sets up all it needs and runs every test
///
/// The last line says how many passed, failed and were skipped. A test is skipped where the machine lacks what
/// it needs (a GPU), and its reason is shown.
#[derive(Args)]
pub struct Test {
    /// Runs one stage; may be repeated
    #[arg(long, value_name = "STAGE", value_parser = STAGES.map(|stage| stage.0).to_vec())]
    only: Vec<String>,
}

type Run = fn(&str) -> Result<Tally>;

/// Name, purpose and body of each stage, in order.
const STAGES: [(&str, &str, Run); 9] = [
    ("format", "the layout of the source", format),
    ("clippy", "the lints of the workspace", clippy),
    ("unit", "the tests of every crate", unit),
    ("loom", "the order of the rings' loads and stores", loom),
    ("ptx", "the test programs' kernels, compiled by nvcc", ptx),
    (
        "local",
        "CUDA programs over rings and mediator, without QEMU",
        local_programs,
    ),
    ("qemu", "QEMU with the device", build_qemu),
    ("qtest", "the device in QEMU, register by register", qtest),
    ("vm", "CUDA programs in guests", vm),
];

impl Test {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        let mut sum = Tally::default();
        let mut lines = Vec::new();
        for (name, about, body) in STAGES {
            if !self.only.is_empty() && !self.only.iter().any(|only| only == name) {
                continue;
            }
            println!("\n== {name}: {about}");
            let stage = Instant::now();
            let tally = body(name).unwrap_or_else(|error| {
                println!("{error:#}");
                Tally::failed(format!("{name}: {}", first_line(&error)))
            });
            if interrupt::happened() {
                bail!("interrupted");
            }
            tally
                .failures
                .iter()
                .for_each(|failure| println!("FAILED {failure}"));
            tally
                .skip_lines()
                .iter()
                .for_each(|line| println!("{line}"));
            lines.push(format!(
                "{name:<8} {tally} ({:.1} s)",
                stage.elapsed().as_secs_f64()
            ));
            println!("{}", lines.last().map_or("", String::as_str));
            sum.add(tally);
        }
        println!("\n== summary ({:.1} s)", start.elapsed().as_secs_f64());
        lines.iter().for_each(|line| println!("{line}"));
        sum.failures
            .iter()
            .for_each(|failure| println!("FAILED {failure}"));
        println!("{sum}");
        Ok(if sum.is_good() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().to_owned()
}

/// A hanging test ends its stage, not the whole run.
fn cargo(limit: Duration, words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", &limit.as_secs().to_string()]);
    command
        .arg(workspace::cargo())
        .args(words)
        .current_dir(workspace::root());
    command
}

/// One check that is a whole command.
fn check(name: &str, command: &mut Command) -> Result<Tally> {
    let mut step = progress::step(name);
    step.run(command, &format!("test-{name}"))?;
    step.done("");
    Ok(Tally::passed(1))
}

/// Tests whose results are in the output of `cargo test`.
fn libtest(name: &str, command: &mut Command) -> Result<Tally> {
    let mut step = progress::step(name);
    let log = format!("test-{name}");
    let result = step.run(command, &log);
    let path = progress::log_file(&log)?;
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let tally = tally::of_libtest(&text);
    match result {
        Ok(()) => step.done(""),
        Err(error) if tally.failures.is_empty() => return Err(error),
        Err(_) => print!("{}", tally::failure_output(&text)),
    }
    Ok(tally)
}

fn format(name: &str) -> Result<Tally> {
    check(name, &mut cargo(BUILD_LIMIT, &["fmt", "--all", "--check"]))
}

fn clippy(name: &str) -> Result<Tally> {
    check(
        name,
        &mut cargo(
            BUILD_LIMIT,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ),
    )
}

fn unit(name: &str) -> Result<Tally> {
    // A test looks at the symbols of the library itself, which `cargo test` does not leave behind.
    let mut step = progress::step("libcuda as a library");
    step.run(
        &mut cargo(BUILD_LIMIT, &["build", "--package", "vgpu-libcuda"]),
        "test-libcuda",
    )?;
    step.done("");
    let mut command = cargo(BUILD_LIMIT, &["test", "--workspace", "--no-fail-fast"]);
    for package in QEMU_CRATES {
        command.args(["--exclude", package]);
    }
    libtest(name, &mut command)
}

/// The model checker takes the place of the atomics, so the crates are compiled anew.
fn loom(name: &str) -> Result<Tally> {
    let mut command = cargo(
        BUILD_LIMIT,
        &[
            "test",
            "--package",
            "vgpu-protocol",
            "--release",
            "--test",
            "loom",
        ],
    );
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", workspace::target()?.join("loom"));
    libtest(name, &mut command)
}

fn ptx(_: &str) -> Result<Tally> {
    nvcc::kernels().map(|_| Tally::passed(1))
}

/// The programs that the guest runs too.
fn local_programs(name: &str) -> Result<Tally> {
    let ptx = nvcc::kernels()?;
    let stage = shims::stage()?;
    let c_program = shims::c_program()?;
    let served = Served::start(&Device::default())?;
    let program = |name: &str, words: &[&str]| {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", "600"])
            .arg(stage.join("bin").join(name))
            .args(words)
            .arg(&ptx);
        command.envs(served.environment());
        command
    };
    let mut tally = Tally::default();
    let runs: [(&str, Command); 5] = [
        ("kernels", program("cuda-kernels", &[])),
        ("processes", program("cuda-kernels", &["--processes", "4"])),
        ("threads", program("cuda-kernels", &["--threads", "4"])),
        ("errors", program("cuda-errors", &[])),
        ("c", {
            let mut command = Command::new(&c_program);
            command
                .arg(ptx.join("vector_add.ptx"))
                .envs(served.environment());
            command
        }),
    ];
    for (part, mut command) in runs {
        let mut step = progress::step(&format!("{name}: {part}"));
        let log = format!("test-{name}-{part}");
        let result = step.run(&mut command, &log);
        let text = std::fs::read_to_string(progress::log_file(&log)?)?;
        let mut part_tally = tally::of_program(part, &text);
        match result {
            Ok(()) => step.done(&part_tally.to_string()),
            Err(error) if part_tally.failures.is_empty() => {
                println!("{error:#}");
                part_tally.add(Tally::failed(format!("{part}: {}", first_line(&error))));
            }
            Err(_) => {}
        }
        tally.add(part_tally);
    }
    Ok(tally)
}

fn build_qemu(_: &str) -> Result<Tally> {
    let installed = qemu::installed()?;
    let mut help = Command::new(&installed.binary);
    let text = run::stdout(
        help.args(&installed.firmware)
            .args(["-device", "vgpu-stub,help"]),
    )?;
    if !text.contains("vm_id") {
        bail!("{} has no vgpu-stub device", installed.binary.display());
    }
    Ok(Tally::passed(1))
}

fn qtest(name: &str) -> Result<Tally> {
    let installed = qemu::installed()?;
    let mut command = cargo(
        QEMU_LIMIT,
        &["test", "--package", "vgpu-qtest", "--no-fail-fast"],
    );
    command
        .env("VGPU_QEMU", &installed.binary)
        .env("VGPU_QEMU_ARGS", installed.firmware.join(" "));
    libtest(name, &mut command)
}

/// This program's file. An earlier stage may have built it anew, and Linux then says so behind the
/// old file's name; what is there now is made from the same source.
fn own_path() -> Result<PathBuf> {
    let path = std::env::current_exe().context("find this program's file")?;
    Ok(
        match path.to_str().and_then(|p| p.strip_suffix(" (deleted)")) {
            Some(path) => PathBuf::from(path),
            None => path,
        },
    )
}

fn vm(name: &str) -> Result<Tally> {
    apt::ensure(&["pciutils"])?;
    qemu::installed()?;
    nvcc::kernels()?;
    shims::stage()?;
    shims::c_program()?;
    let mut command = cargo(
        QEMU_LIMIT,
        &["test", "--package", "vgpu-vm-tests", "--no-fail-fast"],
    );
    // The tests are marked as ignored, so that `cargo test` alone builds no QEMU.
    command.args(["--", "--include-ignored", "--test-threads", "2"]);
    command.env("VGPU_XTASK", own_path()?);
    libtest(name, &mut command)
}
