//! `cargo xtask guest-tree`: a Debian system with our package and real CUDA programs, as a directory.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::{apt, cache, package, progress, run};

/// What runs on the device: llama.cpp with Debian's own build of its CUDA backend, and the backend's tests.
const PROGRAMS: &[&str] = &[
    "llama.cpp-tools",
    "libggml0-backend-cuda",
    "llama.cpp-tests",
    "libllama-dev",
];

/// What a person looks at the device with.
const TOOLS: &[&str] = &["passwd", "pciutils", "iproute2", "curl", "ca-certificates"];

/// The release by its fixed name, and the names that a mirror has for it.
const SUITES: &[&str] = &["sid", "unstable", "testing", "forky"];

/// A user of the tree who is not root, as services are.
const USER: &str = "user";

/// Makes a Debian tree with the guest's package and llama.cpp's CUDA backend, for `cargo xtask vm --root`
///
/// Prints its path. The packages come from the mirror that this machine's apt is configured for. The tree stays
/// in the cache; it is brought up to date when the guest's libraries change.
#[derive(Args)]
pub struct GuestTree {
    /// Debian's suite: llama.cpp's CUDA backend is in testing and unstable only
    #[arg(long, value_name = "NAME", default_value = "sid", value_parser = SUITES.to_vec())]
    suite: String,

    /// Makes it anew, with today's packages
    #[arg(long)]
    fresh: bool,
}

impl GuestTree {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let tree = tree(&self.suite, self.fresh)?;
        println!("{}", tree.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// The tree of `demo` and the tests.
pub fn default_tree() -> Result<PathBuf> {
    tree("sid", false)
}

/// The tree of a suite, with the package as it is now.
fn tree(suite: &str, fresh: bool) -> Result<PathBuf> {
    let made = package::make_default()?;
    let trees = cache::dir("guest-tree")?;
    let _lock = cache::lock("guest-tree")?;
    let root = trees.join(suite);
    let sources = apt::mirror(suite, "main contrib")?;
    let base = cache::Stamp::new(
        trees.join(format!("{suite}.base")),
        format!("{sources}{PROGRAMS:?}{TOOLS:?}"),
    );
    let content = cache::Stamp::new(trees.join(format!("{suite}.package")), made.content.clone());
    let whole = !fresh && base.is_set() && root.is_dir();
    if whole && content.is_set() {
        return Ok(root);
    }
    content.clear()?;
    if !(whole && install(&root, &made.deb)) {
        apt::ensure(&["mmdebstrap"])?;
        base.clear()?;
        bootstrap(&trees, suite, &sources, &made.deb)?;
        base.set()?;
    }
    content.set()?;
    Ok(root)
}

/// Makes the whole tree under another name first.
fn bootstrap(trees: &Path, suite: &str, sources: &str, deb: &Path) -> Result<()> {
    let (root, new) = (trees.join(suite), trees.join(format!("{suite}.new")));
    for old in [&new, &root] {
        remove_tree(old)?;
    }
    let list = trees.join(format!("{suite}.sources"));
    cache::write_if_changed(&list, sources.as_bytes())?;
    let mut step = progress::step(&format!("guest tree of Debian {suite} with llama.cpp"));
    let mut make = Command::new("mmdebstrap");
    make.args([
        "--variant=apt",
        "--format=directory",
        "--architectures=amd64",
    ])
    // A mirror that lags has an expired Release file; its signature still counts.
    .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
    .arg("--aptopt=Acquire::Languages \"none\"")
    .arg("--aptopt=APT::Install-Recommends \"false\"")
    .arg("--dpkgopt=path-exclude=/usr/share/man/*")
    .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
    .arg(format!("--include={}", TOOLS.join(",")))
    .arg(format!("--customize-hook=copy-in {} /root", word(deb)?))
    .arg(format!(
        "--customize-hook=chroot \"$1\" apt-get install --yes /root/{} {}",
        word(deb.file_name().context("the package has a name")?)?,
        PROGRAMS.join(" ")
    ))
    .arg(format!(
        "--customize-hook=chroot \"$1\" useradd --create-home --shell /bin/bash {USER}"
    ))
    .arg("--customize-hook=rm -f \"$1\"/root/*.deb")
    .arg(suite)
    .arg(&new)
    .arg(&list);
    if let Err(error) = step.run(&mut make, "guest-tree") {
        remove_tree(&new)?;
        return Err(explained(error, suite));
    }
    fs::rename(&new, &root)?;
    step.done("");
    Ok(())
}

/// Replaces the package in a tree that is there; says whether that was possible.
fn install(root: &Path, deb: &Path) -> bool {
    let mut step = progress::step("guest tree: the package as it is now");
    let copy = root.join("root/package.deb");
    let mut dpkg = Command::new("chroot");
    dpkg.arg(root)
        .args(["dpkg", "--install", "/root/package.deb"])
        .env("DEBIAN_FRONTEND", "noninteractive");
    // Not as another user than root, and not where the package lost something that others need.
    let result = fs::copy(deb, &copy)
        .map_err(anyhow::Error::from)
        .and_then(|_| step.run(&mut dpkg, "guest-tree-package"));
    let removed = fs::remove_file(&copy);
    let good = result.is_ok() && removed.is_ok();
    step.done(if good {
        ""
    } else {
        "not possible, the tree is made anew"
    });
    good
}

/// A word of a hook, which a shell splits.
fn word(text: impl AsRef<OsStr>) -> Result<String> {
    let text = text.as_ref().to_str().context("the path is not UTF-8")?;
    ensure!(
        !text.contains(|c: char| c.is_whitespace() || "\"'$`\\".contains(c)),
        "the path {text:?} has characters that a shell takes apart: build in another directory"
    );
    Ok(text.to_owned())
}

/// Says what apt's most likely complaint means.
fn explained(error: anyhow::Error, suite: &str) -> anyhow::Error {
    let text = format!("{error:#}");
    if text.contains("not installable") || text.contains("unmet dependencies") {
        return error.context(format!(
            "Debian {suite}'s llama.cpp needs a library that the guest's package does not provide yet"
        ));
    }
    error
}

fn remove_tree(root: &Path) -> Result<()> {
    if !root.exists() {
        return Ok(());
    }
    // A file system that is mounted below it would be emptied.
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let inside = format!("{}/", root.display());
    if let Some(line) = mounts.lines().find(|line| line.contains(&inside)) {
        bail!("something is mounted in the old tree: {line}");
    }
    run::ok(Command::new("rm").arg("-rf").arg(root))?;
    Ok(())
}
