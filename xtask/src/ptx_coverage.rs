//! `cargo xtask ptx-coverage`: the page that says which PTX instructions are executed, made from the table of tests.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;
use vgpu_ptx_cases::modules;

use crate::{nvcc, run, workspace};

const PAGE: &str = "docs/specs/ptx-coverage.md";

/// The oldest architecture that the assembler knows.
const OLDEST: u32 = 75;

/// Writes docs/specs/ptx-coverage.md from the table of PTX instructions
#[derive(Args)]
pub struct PtxCoverage {
    /// Only checks that the page is up to date
    #[arg(long)]
    check: bool,

    /// Has NVIDIA's ptxas assemble every kernel of the table
    #[arg(long)]
    ptxas: bool,
}

impl PtxCoverage {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let path = workspace::root().join(PAGE);
        let page = vgpu_ptx_cases::page::text(&vgpu_ptx_cases::all());
        if !self.check {
            std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        } else if std::fs::read_to_string(&path).unwrap_or_default() != page {
            bail!("{PAGE} is not up to date: run `cargo xtask ptx-coverage`");
        }
        if self.ptxas {
            println!("ptxas accepts {} modules", assemble()?);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Assembles every module of the table with NVIDIA's assembler, for the architecture it is for; gives their number.
/// That the rows are what the ISA has is not for us to say.
pub fn assemble() -> Result<u64> {
    let ptxas = nvcc::Toolkit::fetch()?.root.join("bin/ptxas");
    let directory = workspace::target()?.join("ptx-cases");
    std::fs::create_dir_all(&directory)?;
    let forms = vgpu_ptx_cases::all();
    let mut count = 0;
    for (i, module) in modules::group(&forms).iter().enumerate() {
        let (version, sm) = module.needs;
        let file = directory.join(format!("{i:03}-{version}-{sm}.ptx"));
        std::fs::write(&file, modules::text(&forms, module, false))?;
        let architecture = if sm > 900 {
            format!("sm_{}a", sm / 10)
        } else {
            format!("sm_{}", sm.max(OLDEST))
        };
        let mut command = Command::new(&ptxas);
        command
            .args(["-O0", "-arch", &architecture, "-o", "/dev/null"])
            .arg(&file);
        run::ok(&mut command).with_context(|| file.display().to_string())?;
        count += 1;
    }
    Ok(count)
}
