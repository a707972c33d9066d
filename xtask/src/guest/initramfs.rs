//! The initramfs: busybox, the kernel's modules, our init scripts, and what this one boot is to do.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::kernel::{Kernel, Module};
use crate::apt;

/// Statically linked, so that it runs in any root.
const BUSYBOX: &str = "/usr/bin/busybox";
const BUSYBOX_MERGED: &str = "/bin/busybox";

/// The program, from Debian's package.
pub fn busybox() -> Result<Vec<u8>> {
    let path = if Path::new(BUSYBOX).exists() {
        BUSYBOX
    } else {
        BUSYBOX_MERGED
    };
    if !Path::new(path).exists() {
        apt::ensure(&["busybox-static"])?;
    }
    fs::read(path).with_context(|| format!("read {path}"))
}

/// What a guest is to do in its root.
pub struct Errand {
    /// Shell variables that the scripts read.
    pub config: String,
    /// The script of the command.
    pub command: String,
    /// The loader's cache with the shims in it, in base64, where a guest has made it before.
    pub loader_cache: Option<String>,
}

/// An initramfs in the making.
pub struct Initramfs {
    archive: Archive,
}

impl Initramfs {
    /// One with busybox and our first script.
    fn new() -> Result<Self> {
        let busybox = busybox()?;
        let mut archive = Archive::default();
        for directory in ["bin", "dev", "modules", "modules/extra", "vgpu"] {
            archive.directory(directory);
        }
        archive.console("dev/console");
        archive.file("bin/busybox", &busybox);
        archive.file("init", include_bytes!("init.sh"));
        Ok(Self { archive })
    }

    /// One whose guest says `word` on its console and ends.
    pub fn probe(word: &str) -> Result<Vec<u8>> {
        let mut initramfs = Self::new()?;
        initramfs.archive.file("modules/boot", b"");
        initramfs
            .archive
            .file("vgpu/config", format!("PROBE={word}\n").as_bytes());
        Ok(initramfs.archive.finish())
    }

    /// One that goes on to run a command in the guest's root.
    pub fn boot(kernel: &Kernel, errand: &Errand, extra: &[Module]) -> Result<Vec<u8>> {
        let mut initramfs = Self::new()?;
        let boot = kernel.boot_modules()?;
        initramfs.modules("modules", &boot);
        initramfs
            .archive
            .file("modules/boot", names(&boot).as_bytes());
        initramfs.modules("modules/extra", extra);
        initramfs
            .archive
            .file("vgpu/stage2.sh", include_bytes!("stage2.sh"));
        initramfs
            .archive
            .file("vgpu/config", errand.config.as_bytes());
        initramfs
            .archive
            .file("vgpu/command", errand.command.as_bytes());
        if let Some(cache) = &errand.loader_cache {
            initramfs.archive.file("vgpu/ld.so.cache", cache.as_bytes());
        }
        Ok(initramfs.archive.finish())
    }

    fn modules(&mut self, directory: &str, modules: &[Module]) {
        for module in modules {
            self.archive
                .file(&format!("{directory}/{}.ko", module.name), &module.image);
        }
    }
}

/// The modules' names, in order.
pub fn names(modules: &[Module]) -> String {
    modules
        .iter()
        .map(|module| module.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}
