//! Files out of Python packages, unpacked side by side into one directory of the cache and never installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{apt, cache, progress, run};

/// Builds of wheels that run on a current distribution.
const PLATFORMS: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux2010_x86_64",
    "manylinux1_x86_64",
];

/// Gives the tree of `packages` (pip's requirements, without their dependencies), downloaded and unpacked where the
/// cache has not got it. `prepare` finishes a new tree. `what` is shown; `name` is the folder in the cache.
pub fn tree(
    name: &str,
    what: &str,
    packages: &[&str],
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let dir = cache::dir(name)?;
    let tree = dir.join("tree");
    let stamp = dir.join("unpacked");
    let wanted = packages.join("\n");
    let cached = || tree.is_dir() && fs::read_to_string(&stamp).is_ok_and(|is| is == wanted);
    if cached() {
        return Ok(tree);
    }
    let _lock = cache::lock(name)?;
    if cached() {
        return Ok(tree);
    }
    let step = progress::step(&format!("{what}: download and unpack"));
    if run::ok(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        apt::ensure(&["python3-pip"])?;
    }
    let wheels = dir.join("wheels");
    for old in [&tree, &wheels] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps"]);
    pip.args(["--only-binary", ":all:"]);
    for platform in PLATFORMS {
        pip.args(["--platform", platform]);
    }
    run::ok(pip.arg("--dest").arg(&wheels).args(packages))?;
    for wheel in fs::read_dir(&wheels)? {
        let mut unzip = Command::new("python3");
        unzip.args(["-m", "zipfile", "-e"]);
        run::ok(unzip.arg(wheel?.path()).arg(&tree))?;
    }
    fs::remove_dir_all(&wheels)?;
    prepare(&tree)?;
    fs::write(&stamp, wanted)?;
    step.done("");
    Ok(tree)
}
