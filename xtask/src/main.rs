//! The commands of this repository: `cargo xtask help`.

mod apt;
mod bench;
mod cache;
mod counters;
mod coverage;
mod demo;
mod device;
mod guest;
mod interrupt;
mod local;
mod nvcc;
mod progress;
mod qemu;
mod run;
mod shims;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The commands of vgpu-stub.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_version_flag = true
)]
struct Line {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    Demo(demo::Demo),
    Test(test::Test),
    Vm(Box<vm::Vm>),
    Local(local::Local),
    Bench(bench::Bench),
    Qemu(qemu::Qemu),
    Coverage(coverage::Coverage),
    /// Builds the libraries and programs that go into the guest
    Shims,
    /// Compiles the kernels of the test programs with NVIDIA's nvcc
    Ptx,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let result = interrupt::watch().and_then(|()| match line.command {
        Commands::Demo(demo) => demo.run(),
        Commands::Test(test) => test.run(),
        Commands::Vm(vm) => vm.run(),
        Commands::Coverage(coverage) => coverage.run(),
        Commands::Local(local) => local.run(),
        Commands::Bench(bench) => bench.run(),
        Commands::Qemu(qemu) => qemu.run(),
        Commands::Shims => shims::stage().map(|stage| {
            println!("{}", stage.display());
            ExitCode::SUCCESS
        }),
        Commands::Ptx => nvcc::kernels().map(|directory| {
            println!("{}", directory.display());
            ExitCode::SUCCESS
        }),
    });
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
