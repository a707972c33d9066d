//! The Debian package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::provides::{conflicts, provides};
use super::version::Version;
use super::{Contents, NAME, UDEV_RULE, put, write};
use crate::{run, workspace};

/// The maintainer's scripts and triggers.
pub const SCRIPTS: &[&str] = &["postinst", "postrm", "triggers"];

const MAINTAINER: &str = "The vgpu-stub maintainers <maintainers@vgpu-stub.invalid>";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Builds it in `root`; gives its path in `output`.
pub fn make(contents: &Contents, version: &Version, root: &Path, output: &Path) -> Result<PathBuf> {
    for name in &contents.libraries {
        put(
            &contents.root.join("lib").join(name),
            &root.join(LIBRARIES).join(name),
            0o644,
        )?;
    }
    for (link, target) in &contents.links {
        std::os::unix::fs::symlink(target, root.join(LIBRARIES).join(link))?;
    }
    for name in &contents.programs {
        put(
            &contents.root.join("bin").join(name),
            &root.join("usr/bin").join(name),
            0o755,
        )?;
    }
    let own = workspace::root().join("guest-shim/packaging");
    put(
        &own.join(UDEV_RULE),
        &root.join("usr/lib/udev/rules.d").join(UDEV_RULE),
        0o644,
    )?;
    let doc = root.join("usr/share/doc").join(NAME);
    write(&doc.join("copyright"), copyright()?.as_bytes(), 0o644)?;
    write(
        &doc.join("changelog.gz"),
        &gzip(changelog(version)?)?,
        0o644,
    )?;
    put(
        &own.join("lintian-overrides"),
        &root.join("usr/share/lintian/overrides").join(NAME),
        0o644,
    )?;

    let sums = md5sums(root)?;
    let debian = root.join("DEBIAN");
    for name in SCRIPTS {
        let mode = if *name == "triggers" { 0o644 } else { 0o755 };
        put(&own.join(name), &debian.join(name), mode)?;
    }
    write(&debian.join("md5sums"), sums.as_bytes(), 0o644)?;
    let control = control(contents, version, installed_kib(root)?);
    write(&debian.join("control"), control.as_bytes(), 0o644)?;

    let path = output.join(format!("{NAME}_{}_amd64.deb", version.text));
    let mut build = Command::new("dpkg-deb");
    build
        .env("SOURCE_DATE_EPOCH", version.epoch.to_string())
        // The directories' modes do not follow the caller's umask.
        .args([
            "--root-owner-group",
            "-Zxz",
            "-z6",
            "--threads-max=1",
            "--build",
        ])
        .args([root, &path]);
    run::ok(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(root))?;
    run::ok(&mut build)?;
    Ok(path)
}

fn control(contents: &Contents, version: &Version, kib: u64) -> String {
    let provides = provides(&contents.libraries, &contents.programs);
    let others = conflicts(&provides).join(", ");
    let (major, minor) = contents.glibc;
    format!(
        "Package: {NAME}\n\
         Version: {}\n\
         Architecture: amd64\n\
         Maintainer: {MAINTAINER}\n\
         Installed-Size: {kib}\n\
         Depends: libc6 (>= {major}.{minor}), libgcc-s1 (>= 3.0)\n\
         Recommends: udev\n\
         Provides: {}\n\
         Conflicts: {others}\n\
         Replaces: {others}\n\
         Section: libs\n\
         Priority: optional\n\
         Description: CUDA libraries for virtual machines with a vgpu-stub device\n \
         CUDA programs in a virtual machine compute on the host's GPU through the\n \
         PCI device vgpu-stub. This package has the libraries that stand in the\n \
         place of NVIDIA's driver and runtime, and a udev rule that lets users who\n \
         are not root open the device.\n \
         .\n \
         The package and the host's QEMU must be of the same build: they compare\n \
         a hash of their protocol and refuse each other when it differs.\n",
        version.text,
        provides.join(", "),
    )
}

fn copyright() -> Result<String> {
    let licence = fs::read_to_string(workspace::root().join("LICENSE-MIT"))?;
    let mut lines = licence.lines();
    let mut text = String::from(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: vgpu-stub\n\nFiles: *\nCopyright: 2026 The vgpu-stub maintainers\n\
         License: Expat\n",
    );
    // The heading and the line of the copyright stand in fields of their own.
    lines.by_ref().take(4).for_each(drop);
    for line in lines {
        text.push_str(&format!(" {}\n", if line.is_empty() { "." } else { line }));
    }
    Ok(text)
}

fn changelog(version: &Version) -> Result<String> {
    Ok(format!(
        "{NAME} ({}) unstable; urgency=medium\n\n  * Built from the sources of this version.\n\n -- {MAINTAINER}  {}\n",
        version.text,
        version.rfc2822()?
    ))
}

/// Without a name and a time in the header.
fn gzip(text: String) -> Result<Vec<u8>> {
    use std::io::Write;
    let mut child = Command::new("gzip")
        .args(["-9", "--no-name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run gzip")?;
    let mut input = child.stdin.take().context("gzip has no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "gzip failed: {}", output.status);
    Ok(output.stdout)
}

/// The files below `root`, sorted, without links.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn md5sums(root: &Path) -> Result<String> {
    let mut sum = Command::new("md5sum");
    sum.current_dir(root);
    for file in files(root)? {
        sum.arg(file.strip_prefix(root)?);
    }
    run::stdout(&mut sum)
}

/// As dpkg-gencontrol counts: each file in whole KiB.
fn installed_kib(root: &Path) -> Result<u64> {
    let mut sum = 0;
    for file in files(root)? {
        sum += fs::metadata(file)?.len().div_ceil(1024);
    }
    Ok(sum)
}
