//! The bundle's guest: an initramfs that is its whole system.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{CUDA_PROGRAMS, closure};
use crate::guest::cpio::Archive;
use crate::guest::initramfs::busybox;
use crate::interrupt::Directory;
use crate::shims;

/// Programs of the guest beside those that use CUDA.
const PROGRAMS: &[&str] = &["vgpu-ctl"];

/// Where programs look for the loader.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// The archive.
pub fn initramfs(stage: &Path, kernels: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in [
        "bin", "dev", "proc", "sys", "tmp", "lib64", "usr", "usr/lib", "usr/bin", "ptx",
    ] {
        archive.directory(directory);
    }
    archive.console("dev/console");
    archive.file("bin/busybox", &busybox()?);
    archive.file("init", include_bytes!("init.sh"));
    let libraries = Directory::new("vgpu-bundle")?;
    for name in PROGRAMS.iter().chain(CUDA_PROGRAMS) {
        let program = stage.join("bin").join(name);
        closure::copy(&program, libraries.path())?;
        archive.file(&format!("usr/bin/{name}"), &read(&program)?);
    }
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(libraries.path())? {
        names.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    for name in &names {
        let bytes = read(&libraries.path().join(name))?;
        let at = if LOADER.ends_with(name) {
            LOADER.to_owned()
        } else {
            format!("usr/lib/{name}")
        };
        archive.file(&at, &bytes);
    }
    for soname in shims::sonames() {
        archive.file(
            &format!("usr/lib/{soname}"),
            &read(&stage.join("lib").join(soname))?,
        );
    }
    for entry in fs::read_dir(kernels)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .context("a kernel's file has no name")?
            .to_string_lossy();
        archive.file(&format!("ptx/{name}"), &read(&path)?);
    }
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
