//! Our NVML against NVIDIA's headers: every function of theirs is a name of ours, and the structs agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{run, wheels, workspace};

/// Python packages with the header: the last one for CUDA 12, and a late one for CUDA 13.
const HEADERS: &[(&str, &str)] = &[
    ("nvml-12", "nvidia-nvml-dev-cu12==12.9.79"),
    ("nvml-13", "nvidia-nvml-dev==13.4.92"),
];

#[path = "../../guest-shim/nvml/exports.rs"]
mod exports;

/// Each name, and whether it is supported.
pub fn supported() -> Result<Vec<(String, bool)>> {
    let own = workspace::root().join("guest-shim/nvml");
    let done = exports::implemented(&own.join("src")).context("read NVML's sources")?;
    let symbols = fs::read_to_string(own.join("symbols.txt")).context("read symbols.txt")?;
    let names = symbols
        .lines()
        .map(|name| (name.to_owned(), done.contains(name)));
    Ok(names.collect())
}

/// Compares with each header; gives how many checks passed.
pub fn check() -> Result<u64> {
    let own = workspace::root().join("guest-shim/nvml");
    let symbols = fs::read_to_string(own.join("symbols.txt")).context("read symbols.txt")?;
    let ours: BTreeSet<&str> = symbols.lines().collect();
    for (name, package) in HEADERS {
        let tree = wheels::tree(name, package, &[package], |_| Ok(()))?;
        let header = find(&tree)?;
        let text = fs::read_to_string(&header)?;
        let missing: Vec<&str> = declared(&text)
            .filter(|name| !ours.contains(name))
            .collect();
        ensure!(
            missing.is_empty(),
            "{package}: symbols.txt lacks {}",
            missing.join(", ")
        );
        let folder = header.parent().context("a file lies in a folder")?;
        let mut compile = Command::new("cc");
        compile
            .args(["-std=c11", "-fsyntax-only", "-I"])
            .arg(folder);
        run::ok(compile.arg(own.join("tests/layout.c"))).with_context(|| (*package).to_owned())?;
    }
    Ok(2 * HEADERS.len() as u64)
}

/// The headers, from the oldest to the newest.
pub fn headers() -> Result<Vec<PathBuf>> {
    let of = |(name, package): &(&str, &str)| {
        find(&wheels::tree(name, package, &[package], |_| Ok(()))?)
    };
    HEADERS.iter().map(of).collect()
}

/// Names of the functions that a header declares.
fn declared(header: &str) -> impl Iterator<Item = &str> {
    header.split("DECLDIR ").skip(1).filter_map(|rest| {
        let name = rest.split('(').next()?.trim();
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (plain && name.starts_with("nvml")).then_some(name)
    })
}

fn find(tree: &Path) -> Result<PathBuf> {
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "nvml.h") {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("there is no nvml.h below {}", tree.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_in_a_header() {
        let text = "#define DECLDIR x\nnvmlReturn_t DECLDIR nvmlInit_v2(void);\n\
                    const DECLDIR char* nvmlErrorString(nvmlReturn_t);\nnvmlReturn_t DECLDIR nvmlShutdown (void);\n";
        let names: Vec<&str> = declared(text).collect();
        assert_eq!(names, ["nvmlInit_v2", "nvmlShutdown"]);
    }
}
