//! The commands of this repository: `cargo xtask help`.

mod apt;
mod cache;
mod guest;
mod interrupt;
mod nvcc;
mod progress;
mod qemu;
mod run;
mod shims;
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
    Vm(vm::Vm),
    Qemu(qemu::Qemu),
    /// Builds the libraries and programs that go into the guest
    Shims,
    /// Compiles the kernels of the test programs with NVIDIA's nvcc
    Ptx,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let result = interrupt::watch().and_then(|()| match line.command {
        Commands::Vm(vm) => vm.run(),
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
