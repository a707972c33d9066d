//! `cargo xtask coverage`: the page that says which calls work, made from the call table and from
//! what libcuda exports.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use vgpu_protocol::calls::{CALLS, Mode};

use crate::workspace;

#[path = "../../guest-shim/libcuda/exports.rs"]
mod exports;

const PAGE: &str = "docs/specs/coverage.md";

/// Writes docs/specs/coverage.md from the call table and from what libcuda exports
#[derive(Args)]
pub struct Coverage {
    /// Only checks that the page is up to date
    #[arg(long)]
    check: bool,
}

impl Coverage {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let path = workspace::root().join(PAGE);
        let page = page()?;
        if !self.check {
            std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        } else if std::fs::read_to_string(&path).unwrap_or_default() != page {
            bail!("{PAGE} is not up to date: run `cargo xtask coverage`");
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn page() -> Result<String> {
    let libcuda = workspace::root().join("guest-shim/libcuda");
    let implemented =
        exports::implemented(&libcuda.join("src")).context("read libcuda's sources")?;
    let symbols =
        std::fs::read_to_string(libcuda.join("symbols.txt")).context("read symbols.txt")?;
    let names: Vec<&str> = symbols
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let (done, open): (Vec<_>, Vec<_>) =
        names.iter().partition(|name| implemented.contains(**name));

    let mut page = String::from(
        "# Coverage\n\n\
         Made by `cargo xtask coverage` from the call table (`mediator-lib/protocol/src/calls.rs`) and from what\n\
         `libcuda.so.1` exports; a test compares them.\n\n\
         ## Calls that reach the host\n\n\
         `posted`: the guest does not wait, an error is returned by the next call that waits. `waits`: the guest\n\
         waits, and is told of earlier errors first. `asks`: the guest waits; earlier errors stay. Both backends\n\
         have a body for every row: one without does not compile.\n\n\
         | opcode | mode | call | about |\n|---|---|---|---|\n",
    );
    for call in CALLS {
        let mode = match call.mode {
            Mode::posted => "posted",
            Mode::waits => "waits",
            Mode::asks => "asks",
        };
        let name = match call.page {
            "" => format!("`{}`", call.name),
            page => format!(
                "[`{}`](https://docs.nvidia.com/cuda/cuda-driver-api/{page}.html)",
                call.name
            ),
        };
        writeln!(
            page,
            "| {:#06x} | {mode} | {name} | {} |",
            call.opcode,
            call.about.trim()
        )?;
    }
    list(
        &mut page,
        "Functions of libcuda.so.1 that are implemented",
        &done,
        names.len(),
    )?;
    list(
        &mut page,
        "Functions that are exported and return CUDA_ERROR_NOT_SUPPORTED",
        &open,
        names.len(),
    )?;
    Ok(page)
}

fn list(page: &mut String, title: &str, names: &[&str], all: usize) -> Result<()> {
    writeln!(page, "\n## {title}: {} of {all}\n", names.len())?;
    let mut column = 0;
    for (i, name) in names.iter().enumerate() {
        let end = if i + 1 == names.len() { "" } else { "," };
        if column > 0 && column + name.len() > 100 {
            page.push('\n');
            column = 0;
        }
        write!(page, "{}`{name}`{end}", if column > 0 { " " } else { "" })?;
        column += name.len() + 4;
    }
    page.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let written =
            std::fs::read_to_string(workspace::root().join(PAGE)).expect("the page exists");
        assert!(
            written == page().expect("the page can be made"),
            "run `cargo xtask coverage`"
        );
    }
}
