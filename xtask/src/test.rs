//! `cargo xtask test`: every test there is, with what each stage needs set up before.

mod abi;
mod bundle;
mod cudart;
mod llm;
mod llm_vm;
mod node;
mod python;
mod tally;
mod torture;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::device::{Device, Isolation};
use crate::local::Served;
use crate::{
    apt, cublaslt, interrupt, nvcc, nvml, package, programs, progress, ptx_coverage, qemu, run,
    shims, workspace,
};
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
    #[arg(long, value_name = "STAGE", value_parser = stages())]
    only: Vec<String>,
}

type Run = fn(&str) -> Result<Tally>;

/// Name, purpose and body of each stage, in order.
const STAGES: &[(&str, &str, Run)] = &[
    ("format", "the layout of the source", format),
    ("clippy", "the lints of the workspace", clippy),
    ("unit", "the tests of every crate", unit),
    (
        "loom",
        "the rings and the channels' states, model-checked",
        loom,
    ),
    (
        "ptx",
        "kernels compiled by nvcc, and the PTX table by ptxas",
        ptx,
    ),
    (
        "local",
        "CUDA programs over rings and mediator, without QEMU",
        local_programs,
    ),
    (
        "torture",
        "random programs beside a reference of CUDA's order; killed processes",
        torture::stage,
    ),
    (
        "cudart",
        "the CUDA runtime's libraries: names, structures, programs",
        cudart::stage,
    ),
    (
        "programs",
        "CUDA programs, compiled by nvcc in six ways",
        compiled_programs,
    ),
    (
        "python",
        "programs in Python: tinygrad, Numba, CuPy",
        python::stage,
    ),
    (
        "abi",
        "every name that programs link, and every function called once",
        abi::stage,
    ),
    (
        "package",
        "the guest's package: files, symbols, scripts",
        guest_package,
    ),
    (
        "llm",
        "llama.cpp on the device and on the processor: the same tokens",
        llm::run,
    ),
    (
        "node",
        "node-llama-cpp on the device and on the processor: the same tokens",
        node::run,
    ),
    (
        "bundle",
        "what a machine with a GPU gets, run on this one",
        bundle::stage,
    ),
    ("qemu", "QEMU with the device", build_qemu),
    ("qtest", "the device in QEMU, register by register", qtest),
    ("vm", "CUDA programs in guests", vm),
    (
        "llm-vm",
        "llama.cpp in guests: a server, interrupts, two machines, mistakes",
        llm_vm::run,
    ),
];

fn stages() -> Vec<&'static str> {
    STAGES.iter().map(|stage| stage.0).collect()
}

impl Test {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        let mut sum = Tally::default();
        let mut lines = Vec::new();
        for &(name, about, body) in STAGES {
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
            "--package",
            "vgpu-models",
            "--release",
            "--test",
            "loom",
            "--test",
            "states",
        ],
    );
    command
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", workspace::target()?.join("loom"));
    libtest(name, &mut command)
}

fn ptx(_: &str) -> Result<Tally> {
    nvcc::kernels()?;
    Ok(Tally::passed(1 + ptx_coverage::assemble()?))
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
    let plain = |name: &str, words: &[&str]| {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", "60"])
            .arg(stage.join("bin").join(name))
            .args(words)
            .envs(served.environment());
        command
    };
    let mut tally = Tally::default();
    let runs: [(&str, Command); 12] = [
        ("kernels", program("cuda-kernels", &[])),
        ("processes", program("cuda-kernels", &["--processes", "4"])),
        ("threads", program("cuda-kernels", &["--threads", "4"])),
        ("errors", program("cuda-errors", &[])),
        ("blas", program("cuda-blas", &[])),
        ("graphs", program("cuda-graphs", &[])),
        ("ptx", program("ptx-conformance", &[])),
        ("memory", program("cuda-memory", &[])),
        ("c", {
            let mut command = Command::new(&c_program);
            command
                .arg(ptx.join("vector_add.ptx"))
                .envs(served.environment());
            command
        }),
        ("detection", {
            // node-llama-cpp wants every library of the toolkit that it may load.
            let whole = shims::sonames().any(|name| name.starts_with("libcublasLt.so"));
            plain("ollama-detect", if whole { &["--all"] } else { &[] })
        }),
        ("doctor", plain("vgpu-doctor", &[])),
        ("nvml", program("nvml-check", &[])),
    ];
    for (part, mut command) in runs {
        tally.add(program_part(name, part, &mut command)?);
    }
    Ok(tally)
}

/// A program whose output says what passed and what failed.
fn program_part(name: &str, part: &str, command: &mut Command) -> Result<Tally> {
    let mut step = progress::step(&format!("{name}: {part}"));
    let log = format!("test-{name}-{part}");
    let result = step.run(command, &log);
    let text = std::fs::read_to_string(progress::log_file(&log)?)?;
    let mut tally = tally::of_program(part, &text);
    match result {
        Ok(()) => step.done(&tally.to_string()),
        Err(error) if tally.failures.is_empty() => {
            println!("{error:#}");
            tally.add(Tally::failed(format!("{part}: {}", first_line(&error))));
        }
        Err(_) => {}
    }
    Ok(tally)
}

/// Programs whose memory both sides reach: they run also where each session has a process of its own.
const ISOLATED: [&str; 3] = ["managed_memory", "managed_variables", "pinned_memory"];

/// Each form of each program is a test.
fn compiled_programs(name: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let isolated = Device {
        isolation: Some(Isolation::Process),
        ..Device::default()
    };
    for (part, device, names) in [
        ("", Device::default(), Vec::new()),
        (", isolated", isolated, ISOLATED.map(str::to_owned).to_vec()),
    ] {
        for (program, forms) in programs::all(&device, &names)? {
            for (form, outcome) in forms {
                let what = format!("{program} {form}{part}");
                match outcome {
                    programs::Outcome::Passed => tally.add(Tally::passed(1)),
                    programs::Outcome::Skipped(why) => tally.skip(format!("{what}: {why}")),
                    programs::Outcome::Failed(why) => {
                        tally.add(Tally::failed(format!("{name}: {what}: {why}")));
                    }
                }
            }
        }
    }
    Ok(tally)
}

fn guest_package(_: &str) -> Result<Tally> {
    Ok(Tally::passed(
        package::check()? + nvml::check()? + cublaslt::check()?,
    ))
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
    installed_qemu_finds_its_worker(&installed)?;
    Ok(Tally::passed(2))
}

/// What meson installs is all that `isolation=process` needs: the device starts its first worker process with QEMU, or
/// refuses.
fn installed_qemu_finds_its_worker(built: &qemu::Installed) -> Result<()> {
    let place = interrupt::Directory::new("vgpu-qemu-install")?;
    let program = qemu::install(place.path())?;
    let mut qemu = Command::new(&program)
        .args(&built.firmware)
        .args(["-nodefaults", "-display", "none", "-accel", "qtest"])
        .args(["-monitor", "stdio", "-device"])
        .arg("vgpu-stub,vm_id=111,backend=soft,isolation=process")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.display().to_string())?;
    if let Some(mut monitor) = qemu.stdin.take() {
        // One that has refused reads nothing: its status tells.
        let _ = monitor.write_all(b"quit\n");
    }
    let ended = qemu.wait_with_output()?;
    ensure!(
        ended.status.success(),
        "an installed QEMU: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(())
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
