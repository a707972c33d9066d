//! `cargo xtask shims`: what goes into the guest, built and laid out as it is found there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{progress, run, workspace};

/// Packages built for the guest.
const PACKAGES: &[&str] = &["vgpu-libcuda", "vgpu-ctl", "vgpu-test-programs"];

/// Libraries: cargo's file, and the name under which programs open it. Each also gets cargo's name as a link.
const LIBRARIES: &[(&str, &str)] = &[("libcuda.so", "libcuda.so.1")];

/// Programs put into `bin`.
const PROGRAMS: &[&str] = &["vgpu-ctl", "cuda-kernels"];

/// Builds all, and gives the directory with `lib` and `bin`.
pub fn stage() -> Result<PathBuf> {
    let mut build = Command::new(workspace::cargo());
    build
        .current_dir(workspace::root())
        .args(["build", "--release", "--quiet"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let step = progress::step("guest libraries and programs");
    run::inherit(&mut build)?;
    step.done("built");
    let from = workspace::target()?.join("release");
    let stage = workspace::target()?.join("guest");
    for directory in ["lib", "bin"] {
        fs::create_dir_all(stage.join(directory))?;
    }
    for (built, soname) in LIBRARIES {
        install(&from.join(built), &stage.join("lib").join(soname))?;
        link(soname, &stage.join("lib").join(built))?;
    }
    for program in PROGRAMS {
        install(&from.join(program), &stage.join("bin").join(program))?;
    }
    Ok(stage)
}

/// Copies under another name first: a guest may have the old file mapped.
fn install(from: &Path, to: &Path) -> Result<()> {
    let same = fs::metadata(from).and_then(|new| Ok((new, fs::metadata(to)?)));
    if let Ok((new, old)) = same
        && new.len() == old.len()
        && fs::read(from).ok() == fs::read(to).ok()
    {
        return Ok(());
    }
    let new = to.with_extension(format!("new-{}", std::process::id()));
    fs::copy(from, &new)
        .with_context(|| format!("copy {} to {}", from.display(), new.display()))?;
    fs::rename(&new, to).with_context(|| format!("rename {} to {}", new.display(), to.display()))
}

fn link(target: &str, path: &Path) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == Path::new(target)) {
        return Ok(());
    }
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_file(path)?;
    }
    std::os::unix::fs::symlink(target, path).with_context(|| format!("link {}", path.display()))
}
