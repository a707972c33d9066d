//! The commands of this repository: `cargo xtask help`.

mod abi;
mod apt;
mod bench;
mod bundle;
mod cache;
mod corpus;
mod counters;
mod coverage;
mod cublaslt;
mod cudart;
mod demo;
mod device;
mod fuzz;
mod glibc;
mod guest;
mod guest_tree;
mod interrupt;
mod local;
mod model;
mod nvcc;
mod nvml;
mod package;
mod programs;
mod progress;
mod ptx_coverage;
mod qemu;
mod run;
mod shims;
mod sysroot;
mod test;
mod vm;
mod wheels;
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
    Bundle(bundle::Bundle),
    Qemu(qemu::Qemu),
    Coverage(coverage::Coverage),
    Package(package::Package),
    Programs(programs::Programs),
    GuestTree(guest_tree::GuestTree),
    /// Builds the libraries and programs that go into the guest
    Shims,
    /// Compiles the kernels of the test programs with NVIDIA's nvcc
    Ptx,
    PtxCorpus(corpus::PtxCorpus),
    Fuzz(fuzz::Fuzz),
    PtxCoverage(ptx_coverage::PtxCoverage),
    AbiImports(abi::AbiImports),
}

fn main() -> ExitCode {
    let line = Line::parse();
    let result = interrupt::watch().and_then(|()| match line.command {
        Commands::Demo(demo) => demo.run(),
        Commands::Test(test) => test.run(),
        Commands::Vm(vm) => vm.run(),
        Commands::Coverage(coverage) => coverage.run(),
        Commands::Package(package) => package.run(),
        Commands::Programs(programs) => programs.run(),
        Commands::GuestTree(tree) => tree.run(),
        Commands::Local(local) => local.run(),
        Commands::Bench(bench) => bench.run(),
        Commands::Bundle(bundle) => bundle.run(),
        Commands::Qemu(qemu) => qemu.run(),
        Commands::PtxCorpus(corpus) => corpus.run(),
        Commands::Fuzz(fuzz) => fuzz.run(),
        Commands::PtxCoverage(coverage) => coverage.run(),
        Commands::AbiImports(imports) => imports.run(),
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
