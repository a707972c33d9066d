//! `cargo xtask ptx-corpus`: PTX of real programs, and how much of it the software GPU compiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::apt::Suite;
use crate::{cache, progress, run, workspace};

/// Debian's package of llama.cpp's CUDA backend, and the suite that has it.
const DEBIAN: (&str, &str) = ("unstable", "libggml0-backend-cuda");
/// A newer build of the same backend, for CUDA 13.
const NPM: &str = "@node-llama-cpp/linux-x64-cuda";
/// Names of the sources.
const NAMES: [&str; 2] = ["debian", "npm"];

/// Compiles all PTX of llama.cpp's CUDA backend (Debian's build and npm's) with the software GPU, and says what failed
#[derive(Args)]
pub struct PtxCorpus {
    /// Only these sources: debian, npm
    #[arg(long, value_delimiter = ',')]
    source: Vec<String>,
    /// Only PTX of these architectures, for example 75,90
    #[arg(long, value_delimiter = ',')]
    arch: Vec<u32>,
    /// More libraries or PTX files to go through
    files: Vec<PathBuf>,
}

impl PtxCorpus {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        for name in &self.source {
            ensure!(
                NAMES.contains(&name.as_str()),
                "'{name}' is no source: choose from {}",
                NAMES.join(", ")
            );
        }
        let wanted = |name: &str| {
            if self.source.is_empty() {
                self.files.is_empty()
            } else {
                self.source.iter().any(|s| s == name)
            }
        };
        let mut files = self.files.clone();
        if wanted("debian") {
            files.extend(libraries(&debian()?)?);
        }
        if wanted("npm") {
            match npm()? {
                Some(dir) => files.extend(libraries(&dir)?),
                None => eprintln!("npm is not installed: {NPM} is left out"),
            }
        }
        ensure!(!files.is_empty(), "nothing to go through");
        let mut command = Command::new(workspace::cargo());
        command.current_dir(workspace::root()).args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "vgpu-soft-gpu",
            "--example",
            "corpus",
            "--",
        ]);
        for arch in &self.arch {
            command.arg(format!("--arch={arch}"));
        }
        command.args(&files);
        let status = command
            .status()
            .with_context(|| format!("run `{}`", run::shown(&command)))?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Debian's package, unpacked in the cache.
pub fn debian() -> Result<PathBuf> {
    let _lock = cache::lock("corpus-debian")?;
    let (suite, package) = DEBIAN;
    let dir = cache::dir("corpus")?.join("debian");
    let stamp = cache::Stamp::new(cache::dir("corpus")?.join("debian.stamp"), package);
    if !stamp.is_set() {
        let step = progress::step(&format!("{package} of Debian {suite}"));
        stamp.clear()?;
        let _ = fs::remove_dir_all(&dir);
        Suite::open(suite)?.unpack(package, &dir)?;
        stamp.set()?;
        step.done("");
    }
    Ok(dir)
}

/// npm's package, unpacked in the cache.
pub fn npm_required() -> Result<PathBuf> {
    npm()?.with_context(|| format!("npm is not installed, which has {NPM}"))
}

/// npm's package, unpacked in the cache; none where there is no npm.
fn npm() -> Result<Option<PathBuf>> {
    let _lock = cache::lock("corpus-npm")?;
    let base = cache::dir("corpus")?;
    let dir = base.join("npm");
    let stamp = cache::Stamp::new(base.join("npm.stamp"), NPM);
    if stamp.is_set() {
        return Ok(Some(dir));
    }
    if Command::new("npm").arg("--version").output().is_err() {
        return Ok(None);
    }
    let step = progress::step(NPM);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let name = run::stdout(
        Command::new("npm")
            .current_dir(&dir)
            .args(["pack", "--silent", NPM]),
    )?;
    let archive = dir.join(name.trim());
    run::ok(
        Command::new("tar")
            .arg("-xzf")
            .arg(&archive)
            .arg("-C")
            .arg(&dir),
    )?;
    fs::remove_file(&archive)?;
    stamp.set()?;
    step.done("");
    Ok(Some(dir))
}

/// All shared libraries below a directory whose names speak of CUDA.
pub fn libraries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut work = vec![dir.to_owned()];
    while let Some(dir) = work.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                work.push(entry.path());
            } else if kind.is_file() && name.contains("cuda") && name.contains(".so") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}
