//! `cargo xtask demo`: a CUDA program in a virtual machine computes on the mediator's GPU.

mod llm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::device::{Backend, Identity};
use crate::guest::{self, Input, Options, Outcome, Output};
use crate::interrupt::Directory;
use crate::{apt, counters, nvcc, qemu, shims};

/// Sets up all it needs, boots machines with the device and runs CUDA programs in them
#[derive(Args)]
pub struct Demo {
    /// What computes
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,

    /// The language model that answers in the last act [default: SmolLM2-135M-Instruct, 98 MB]
    #[arg(long, value_name = "GGUF")]
    model: Option<PathBuf>,

    /// Leaves the last act out: no Debian tree, no language model
    #[arg(long, conflicts_with = "model")]
    no_llm: bool,
}

/// What the guest runs for one identity, as a shell script; `set -x` shows each command.
const SCRIPT: &str = r#"
set -ex
lspci -nn -s 00:05.0
vgpu-ctl hello
vgpu-ctl run vector_add
cuda-kernels --count-calls /opt/vgpu-stub/ptx
"#;

/// What the guest must have printed.
const WANTED: [&str; 2] = ["Test passed: vector addition successful", " kernels passed"];

impl Demo {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        heading("Setting up");
        apt::ensure(&["pciutils"])?;
        nvcc::kernels()?;
        shims::stage()?;
        qemu::installed()?;
        let llm = match self.no_llm {
            true => None,
            false => Some(llm::Llm::prepare(self.backend, self.model.as_deref())?),
        };
        let mut summary = vec![("set up".to_owned(), start.elapsed())];
        let mut timed = |what: &str, run: &dyn Fn() -> Result<()>| -> Result<()> {
            heading(what);
            let start = Instant::now();
            run().with_context(|| what.to_owned())?;
            summary.push((what.to_owned(), start.elapsed()));
            Ok(())
        };
        timed("One machine: vm_id=111, identity=h100", &|| {
            self.machine(111, Identity::H100)
        })?;
        timed("The same with identity=stub", &|| {
            self.machine(111, Identity::Stub)
        })?;
        timed("Two machines at once: vm_id=111 and vm_id=112", &|| {
            self.two_machines()
        })?;
        if let Some(llm) = &llm {
            timed(
                "Debian with llama.cpp: a language model answers on the virtual GPU",
                &|| llm.answers(),
            )?;
            timed("More tokens are more kernels on the device", &|| {
                llm.counts_grow()
            })?;
            timed("The same machine without the device", &|| {
                llm.without_the_device()
            })?;
        }
        heading("Summary");
        for (what, time) in &summary {
            println!("{:>7.1} s  {what}", time.as_secs_f64());
        }
        println!(
            "{:>7.1} s  in all: every element was right, and every count agreed",
            start.elapsed().as_secs_f64()
        );
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self, vm_id: u32, identity: Identity, counters: PathBuf) -> Options {
        // All was built at the start.
        let mut options = Options {
            cwd: Some("/".into()),
            no_build: true,
            ..Options::default()
        };
        options.device.vm_id = vm_id;
        options.device.identity = identity;
        options.device.backend = self.backend;
        options.device.counters = Some(counters);
        options
    }

    /// Boots a machine, shows what it does, and compares its counts.
    fn machine(&self, vm_id: u32, identity: Identity) -> Result<()> {
        let directory = Directory::new("vgpu-demo")?;
        let file = directory.path().join("counters");
        let options = self.options(vm_id, identity, file.clone());
        let outcome = guest::run(
            &options,
            &shell(SCRIPT),
            Input::Null,
            &Output::Prefixed("guest | ".to_owned()),
        )?;
        println!("{}", outcome.timing());
        check(&outcome, &WANTED)?;
        show_counts(&file, vm_id, &outcome)
    }

    /// Boots two machines; both compute at the same time.
    fn two_machines(&self) -> Result<()> {
        let directory = Directory::new("vgpu-demo")?;
        let file = directory.path().join("counters");
        let words = shell("cuda-kernels --count-calls /opt/vgpu-stub/ptx");
        let outcomes = thread::scope(|scope| {
            let threads = [111, 112].map(|vm_id| {
                let options = Options {
                    cpus: 1,
                    ..self.options(vm_id, Identity::H100, file.clone())
                };
                let words = &words;
                let output = Output::Prefixed(format!("guest {vm_id} | "));
                (
                    vm_id,
                    scope.spawn(move || guest::run(&options, words, Input::Null, &output)),
                )
            });
            threads.map(|(vm_id, thread)| {
                (
                    vm_id,
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(anyhow!("the thread panicked"))),
                )
            })
        });
        for (vm_id, outcome) in outcomes {
            let outcome = outcome.with_context(|| format!("vm_id={vm_id}"))?;
            check(&outcome, &WANTED[1..]).with_context(|| format!("vm_id={vm_id}"))?;
            show_counts(&file, vm_id, &outcome)?;
        }
        Ok(())
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// The words that run a script in the guest.
fn shell(script: &str) -> Vec<OsString> {
    ["sh", "-c", script].map(OsString::from).to_vec()
}

/// The command succeeded, and said so.
fn check(outcome: &Outcome, wanted: &[&str]) -> Result<()> {
    ensure!(outcome.status == 0, "exit status {}", outcome.status);
    for text in wanted {
        ensure!(
            outcome.stdout.contains(text),
            "the guest did not print {text:?}"
        );
    }
    Ok(())
}

/// Prints what the mediator counted for the program of a machine beside what the program counted.
fn show_counts(file: &Path, vm_id: u32, outcome: &Outcome) -> Result<()> {
    let mediator = counters::of_client(file, vm_id, "cuda-kernels")?;
    let program = counters::of_program(&outcome.stdout)?;
    let table = counters::compare(&mediator, &program)?;
    println!("calls of vm_id={vm_id}, counted by the mediator and by the program itself:\n{table}");
    Ok(())
}
