//! `cargo xtask shims`: what goes into the guest, built and laid out as it is found there.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::{cudart, nvcc, progress, run, sysroot, workspace};

mod versioned;

pub use versioned::{cublas, cublaslt};

/// What the guest's processor and system are. Named to cargo, so that the flags below hold for the guest's
/// files alone and not for build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Packages built for the guest.
const PACKAGES: &[&str] = &[
    "vgpu-libcuda",
    "vgpu-nvml",
    "vgpu-cudart",
    "vgpu-nvidia-smi",
    "vgpu-cublas",
    "vgpu-cublaslt",
    "vgpu-ctl",
    "vgpu-test-programs",
    "vgpu-bench",
];

/// Libraries: cargo's file, and the name under which programs open it. Each also gets a link for the linker.
const LIBRARIES: &[(&str, &str)] = &[
    ("libcuda.so", "libcuda.so.1"),
    ("libnvidia_ml.so", "libnvidia-ml.so.1"),
];

/// Programs put into `bin`.
const PROGRAMS: &[&str] = &[
    "nvidia-smi",
    "vgpu-ctl",
    "vgpu-doctor",
    "cuda-kernels",
    "cuda-errors",
    "cuda-graphs",
    "cuda-measure",
    "ptx-conformance",
    "cuda-torture",
    "cuda-memory",
    "ollama-detect",
    "nvml-check",
    "cuda-blas",
    "vgpu-bench",
];

/// True for the name of a program that guests get.
pub fn is_program(name: &OsStr) -> bool {
    PROGRAMS.iter().any(|program| name == *program)
}

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

/// The libraries' sonames.
pub fn sonames() -> impl Iterator<Item = &'static str> {
    LIBRARIES
        .iter()
        .map(|(_, soname)| *soname)
        .chain(cudart::sonames())
        .chain(versioned::sonames())
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
    let packages: Vec<_> = PACKAGES
        .iter()
        .flat_map(|name| ["--package", name])
        .collect();
    let from = portable("guest libraries and programs", &packages)?;
    let stage = workspace::target()?.join("guest");
    for directory in ["lib", "bin"] {
        fs::create_dir_all(stage.join(directory))?;
    }
    for (built, soname) in LIBRARIES {
        install(&from.join(built), &stage.join("lib").join(soname))?;
        let name = soname.split(".so").next().unwrap_or(soname);
        link(soname, &stage.join("lib").join(format!("{name}.so")))?;
    }
    for (built, soname) in cudart::link(&from)? {
        install(&built, &stage.join("lib").join(soname))?;
    }
    link("libcudart.so.13", &stage.join("lib/libcudart.so"))?;
    versioned::link_all(&from, &stage.join("lib"))?;
    for program in PROGRAMS {
        install(&from.join(program), &stage.join("bin").join(program))?;
    }
    Ok(stage)
}

/// Builds for machines with an older C library than this one's, and gives the directory of the results.
/// `arguments` name the packages to cargo.
pub fn portable(what: &str, arguments: &[&str]) -> Result<PathBuf> {
    let mut build = Command::new(workspace::cargo());
    build
        .current_dir(workspace::root())
        .args(["build", "--release"])
        .args(arguments)
        .args(["--target", TARGET])
        .env("CARGO_ENCODED_RUSTFLAGS", flags());
    let mut step = progress::step(what);
    step.run(&mut build, "shims")?;
    step.done("built");
    Ok(workspace::target()?.join(TARGET).join("release"))
}

/// The compiler's flags: the old C library, and paths that say nothing about this machine.
fn flags() -> String {
    let mut flags: Vec<String> = std::env::var("RUSTFLAGS")
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    match sysroot::fetch() {
        Ok(libraries) => flags.push(format!("-Clink-arg=-B{}", libraries.display())),
        Err(error) => eprintln!(
            "warning: the guest's libraries are linked with this machine's own glibc and load only where it is as new: {error:#}"
        ),
    }
    flags.push(format!(
        "--remap-path-prefix={}=/vgpu-stub",
        workspace::root().display()
    ));
    for (variable, in_home, name) in [
        ("CARGO_HOME", ".cargo", "/cargo"),
        ("RUSTUP_HOME", ".rustup", "/rustup"),
    ] {
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(in_home));
        if let Some(path) = std::env::var_os(variable).map(PathBuf::from).or(home) {
            flags.push(format!("--remap-path-prefix={}={name}", path.display()));
        }
    }
    flags.join("\x1f")
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
