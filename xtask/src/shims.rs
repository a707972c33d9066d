//! `cargo xtask shims`: what goes into the guest, built and laid out as it is found there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::{nvcc, progress, run, workspace};

/// Packages built for the guest.
const PACKAGES: &[&str] = &[
    "vgpu-libcuda",
    "vgpu-ctl",
    "vgpu-test-programs",
    "vgpu-bench",
];

/// Libraries: cargo's file, and the name under which programs open it. Each also gets cargo's name as a link.
const LIBRARIES: &[(&str, &str)] = &[("libcuda.so", "libcuda.so.1")];

/// Programs put into `bin`.
const PROGRAMS: &[&str] = &["vgpu-ctl", "cuda-kernels", "cuda-errors", "vgpu-bench"];

/// Builds all, once, and gives the directory with `lib` and `bin`.
pub fn stage() -> Result<PathBuf> {
    static STAGE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = &*stage {
        return Ok(stage.clone());
    }
    let built = build()?;
    *stage = Some(built.clone());
    Ok(built)
}

/// What the last build left.
pub fn last() -> Result<PathBuf> {
    let stage = workspace::target()?.join("guest");
    let library = stage.join("lib").join(LIBRARIES[0].1);
    ensure!(
        library.is_file(),
        "there are no guest libraries yet: run `cargo xtask shims`"
    );
    Ok(stage)
}

fn build() -> Result<PathBuf> {
    let mut build = Command::new(workspace::cargo());
    build
        .current_dir(workspace::root())
        .args(["build", "--release"]);
    for package in PACKAGES {
        build.args(["--package", package]);
    }
    let mut step = progress::step("guest libraries and programs");
    step.run(&mut build, "shims")?;
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

/// Compiles the program in C against NVIDIA's header, linked with the guest's library.
pub fn c_program() -> Result<PathBuf> {
    let toolkit = nvcc::Toolkit::fetch()?;
    let stage = stage()?;
    let program = stage.join("bin/driver-api");
    let mut compile = Command::new("cc");
    compile
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-I"])
        .arg(toolkit.root.join("include"));
    compile.arg(workspace::root().join("tests/programs/c/driver_api.c"));
    compile
        .arg("-L")
        .arg(stage.join("lib"))
        .args(["-lcuda", "-o"])
        .arg(&program);
    run::ok(&mut compile)?;
    Ok(program)
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
