//! `cargo xtask fuzz`: mutated PTX and mutated images against the software GPU, with AddressSanitizer.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{cache, nvcc, progress, run, workspace};

/// AddressSanitizer is not stable, but the stable compiler has it.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// `fuzzing` puts the executor's own memory at the ends of pages.
const FLAGS: &str = "-Zsanitizer=address -Cforce-frame-pointers=yes --cfg fuzzing";
/// Signals are the supervisor's to see; leaks are none where the process ends in the middle.
const OPTIONS: &str = "abort_on_error=1:detect_leaks=0:allocator_may_return_null=1:handle_abort=0";

/// Feeds mutated PTX and mutated images to the software GPU, with AddressSanitizer, and keeps what ends it
///
/// Cases run in a process of their own. One that ends by a signal, panics, hangs, takes too much memory or leaves something
/// else in one form of execution than in another is a finding: its case is written to target/fuzz/findings, and --replay runs it again. The same seed makes the same
/// cases, as long as the corpus is the same: the table of PTX instructions, and what nvcc has compiled of the test
/// programs so far (`cargo xtask ptx`, `cargo xtask programs`).
#[derive(Args)]
pub struct Fuzz {
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// What the random numbers begin with
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Number of the first case
    #[arg(long, default_value_t = 0)]
    first: u64,

    /// Runs these cases again, and nothing else
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,

    /// More files and folders with PTX, fatbins or programs to begin with
    #[arg(long, value_name = "PATH")]
    corpus: Vec<PathBuf>,
}

impl Fuzz {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        ensure!(
            cfg!(all(target_arch = "x86_64", target_os = "linux")),
            "AddressSanitizer is set up for {TARGET} alone"
        );
        let target = workspace::target()?.join("fuzz");
        let mut step = progress::step("fuzzer with AddressSanitizer");
        let mut build = Command::new(workspace::cargo());
        build
            .current_dir(workspace::root())
            .args(["build", "--release", "--package", "vgpu-fuzz"])
            .args(["--target", TARGET])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", FLAGS)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            // Faster to build; the optimiser also removes what AddressSanitizer would see.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "64")
            .env("CARGO_INCREMENTAL", "1");
        step.run(&mut build, "fuzz-build")?;
        step.done("");
        let mut command = Command::new("nice");
        command
            .args(["-n", "19"])
            .arg(target.join(TARGET).join("release/soft-gpu-fuzz"))
            .env("ASAN_OPTIONS", OPTIONS);
        if self.replay.is_empty() {
            let mut corpus = self.corpus;
            corpus.push(nvcc::kernels()?);
            corpus.push(cache::dir("programs")?);
            command
                .arg("run")
                .args(["--seed", &self.seed.to_string()])
                .args(["--seconds", &self.seconds.to_string()])
                .args(["--first", &self.first.to_string()])
                .arg("--findings")
                .arg(target.join("findings"));
            for path in corpus {
                command.arg("--corpus").arg(path);
            }
        } else {
            command.arg("replay").args(&self.replay);
        }
        let status = command
            .status()
            .with_context(|| format!("run `{}`", run::shown(&command)))?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
