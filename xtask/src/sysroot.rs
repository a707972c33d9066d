//! The C library that the guest's libraries are linked against: an old one, so that they load in guests
//! older than this machine.
//!
//! A linked file asks for the versions of the glibc that it was linked with, glibc 2.34 moved many symbols to
//! new ones, and a guest of Debian 11 or Ubuntu 20.04 has 2.31. Debian 11's own packages are taken from the
//! machine's mirror; only the files that the linker reads are kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{apt, cache, progress};

/// The newest glibc whose symbols the guest's files may ask for.
pub const GLIBC: (u32, u32) = (2, 31);

/// The Debian release that has it.
const SUITE: &str = "bullseye";

/// Its packages that the linker needs.
const PACKAGES: &[&str] = &["libc6", "libc6-dev", "libgcc-s1"];

/// Objects and archives of libc6-dev.
const OBJECTS: &[&str] = &["Scrt1.o", "crt1.o", "crti.o", "crtn.o", "libc_nonshared.a"];

/// Shared libraries, and the name by which the linker looks for each.
const LIBRARIES: &[(&str, &str)] = &[
    ("libc.so.6", ""),
    ("ld-linux-x86-64.so.2", ""),
    ("libgcc_s.so.1", ""),
    ("libm.so.6", "libm.so"),
    ("libpthread.so.0", "libpthread.so"),
    ("libdl.so.2", "libdl.so"),
    ("librt.so.1", "librt.so"),
    ("libutil.so.1", "libutil.so"),
];

/// As libc6-dev has it, but with names that the linker finds beside it.
const LIBC_SO: &str = "OUTPUT_FORMAT(elf64-x86-64)\n\
                       GROUP ( libc.so.6 libc_nonshared.a AS_NEEDED ( ld-linux-x86-64.so.2 ) )\n";

/// The directory for the C compiler's `-B`; fetched where it is not in the cache.
pub fn fetch() -> Result<PathBuf> {
    let dir = cache::dir("sysroot")?;
    let ready = dir.join(format!("glibc-{}.{}", GLIBC.0, GLIBC.1));
    if ready.is_dir() {
        return Ok(ready);
    }
    let _lock = cache::lock("sysroot")?;
    if ready.is_dir() {
        return Ok(ready);
    }
    let (unpacked, new) = (dir.join("unpacked"), dir.join("new"));
    for old in [&unpacked, &new] {
        remove(old)?;
        fs::create_dir_all(old)?;
    }
    let suite = apt::Suite::open(SUITE)?;
    let step = progress::step(&format!("glibc {}.{} to link with", GLIBC.0, GLIBC.1));
    for package in PACKAGES {
        suite.unpack(package, &unpacked)?;
    }
    let copy = |folder: &str, name: &str| -> Result<()> {
        let from = unpacked.join(folder).join("x86_64-linux-gnu").join(name);
        fs::copy(&from, new.join(name)).with_context(|| format!("copy {}", from.display()))?;
        Ok(())
    };
    for name in OBJECTS {
        copy("usr/lib", name)?;
    }
    for (name, linked) in LIBRARIES {
        copy("lib", name)?;
        if !linked.is_empty() {
            std::os::unix::fs::symlink(name, new.join(linked))?;
        }
    }
    fs::write(new.join("libc.so"), LIBC_SO)?;
    // Renamed when whole: an interrupted run leaves no half of it.
    fs::rename(&new, &ready)?;
    remove(&unpacked)?;
    step.done("");
    Ok(ready)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
