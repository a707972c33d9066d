//! `cargo xtask coverage`: the page that says which calls work, made from the call table and from
//! what libcuda exports.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use vgpu_protocol::calls::{CALLS, Mode};

use crate::shims::{cublas, cublaslt};
use crate::{cudart, nvml, workspace};

#[path = "../../guest-shim/libcuda/exports.rs"]
mod exports;

mod tested;

pub use tested::Tested;

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
    let mut page = String::from(
        "# Coverage\n\n\
         Made by `cargo xtask coverage` from the call table (`mediator-lib/protocol/src/calls/table.rs`) and from what\n\
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
            page if page.starts_with("cublas") => {
                format!("[`{}`](https://docs.nvidia.com/cuda/{page})", call.name)
            }
            page => {
                let reference = if page.starts_with("group__nvml") {
                    "deploy/nvml-api"
                } else {
                    "cuda/cuda-driver-api"
                };
                format!(
                    "[`{}`](https://docs.nvidia.com/{reference}/{page}.html)",
                    call.name
                )
            }
        };
        writeln!(
            page,
            "| {:#06x} | {mode} | {name} | {} |",
            call.opcode,
            call.about.trim()
        )?;
    }
    let tested = Tested::read()?;
    page.push_str(
        "\n## Functions\n\n\
         Every name of NVIDIA's libraries is exported. `yes`: implemented on this backend. `error`: returns the library's\n\
         error for what is not supported (CUDA_ERROR_NOT_SUPPORTED, cudaErrorNotSupported, CUBLAS_STATUS_NOT_SUPPORTED,\n\
         NVML_ERROR_NOT_SUPPORTED); `cargo xtask test --only abi` calls each of these and requires it, and calls each of\n\
         the others with nothing but zeros: `tests/abi/calls.txt` holds what must come of that, and is compared with what\n\
         NVIDIA's headers document. Tested `yes`: a test program or a unit test names it, too. What a device does not\n\
         have (on `soft`: fans, clocks, tensor cores of some types …) gives the documented error on that backend.\n",
    );
    table(&mut page, "libcuda.so.1", &driver()?, &tested)?;
    cudart::coverage(&mut page, &tested)?;
    table(&mut page, "libnvidia-ml.so.1", &nvml::supported()?, &tested)?;
    blas(&mut page, &tested)?;
    Ok(page)
}

/// Each name of the driver's library, and whether it is supported.
pub fn driver() -> Result<Vec<(String, bool)>> {
    let libcuda = workspace::root().join("guest-shim/libcuda");
    let implemented =
        exports::implemented(&libcuda.join("src")).context("read libcuda's sources")?;
    let symbols =
        std::fs::read_to_string(libcuda.join("symbols.txt")).context("read symbols.txt")?;
    Ok(symbols
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(|name| (name.to_owned(), implemented.contains(name)))
        .collect())
}

/// The same for a list of cuBLAS or cublasLt: the crate's folder, and the list.
pub fn cublas(folder: &str, list: &str) -> Result<Vec<(String, bool)>> {
    let folder = workspace::root().join("guest-shim").join(folder);
    let implemented = cublas::implemented(&folder.join("src"))
        .with_context(|| format!("read {}", folder.display()))?;
    let text = std::fs::read_to_string(folder.join(list)).with_context(|| list.to_owned())?;
    // A line is a name, or a name and the symbol behind it.
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            let symbol = words.next().unwrap_or(name);
            Some((name.to_owned(), implemented.contains(symbol)))
        })
        .collect())
}

/// Names of cuBLAS and cublasLt, of all versions.
fn blas(page: &mut String, tested: &Tested) -> Result<()> {
    for (library, folder, libraries) in [
        ("libcublas", "cublas", &cublas::LIBRARIES),
        ("libcublasLt", "cublaslt", &cublaslt::LIBRARIES),
    ] {
        let mut names = std::collections::BTreeMap::new();
        for (_, _, list) in libraries {
            for (name, supported) in cublas(folder, list)? {
                *names.entry(name).or_insert(false) |= supported;
            }
        }
        let names: Vec<(String, bool)> = names.into_iter().collect();
        table(
            page,
            &format!("{library}.so.11, .12 and .13"),
            &names,
            tested,
        )?;
    }
    Ok(())
}

/// A table of functions, each with whether it is supported.
fn table(
    page: &mut String,
    library: &str,
    names: &[(String, bool)],
    tested: &Tested,
) -> Result<()> {
    let done = names.iter().filter(|(_, supported)| *supported).count();
    let by_test = names
        .iter()
        .filter(|(name, supported)| *supported && tested.has(name))
        .count();
    writeln!(
        page,
        "\n### {library}: {done} of {} are implemented, {by_test} of these are named by tests\n\n\
         | function | exported | soft | cuda | tested |\n|---|---|---|---|---|",
        names.len()
    )?;
    for (name, supported) in names {
        let on = if *supported { "yes" } else { "error" };
        let by_test = if *supported && tested.has(name) {
            "yes"
        } else {
            ""
        };
        writeln!(page, "| `{name}` | yes | {on} | {on} | {by_test} |")?;
    }
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
