//! `cargo xtask bundle`: everything that a machine with a GPU needs to run the tests, in one folder.

mod closure;
mod guest;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::guest::kernel::Kernel;
use crate::{apt, nvcc, progress, qemu, run, shims, workspace};

/// The most that the packed bundle may take, in bytes: what a slow line carries in minutes.
const MAX_PACKED_BYTES: u64 = 60 << 20;

/// Programs for the host, and cargo's arguments for them.
const HOST_PROGRAMS: &[&str] = &["vgpu-local", "vgpu-worker", "vgpu-check"];
const HOST_PACKAGES: &[&str] = &["-p", "vgpu-stub", "-p", "vgpu-check", "--bins"];

/// Programs that use CUDA as any other does, on the host and in the guest.
const CUDA_PROGRAMS: &[&str] = &[
    "cuda-kernels",
    "cuda-errors",
    "cuda-graphs",
    "ptx-conformance",
    "cuda-memory",
    "cuda-measure",
];

/// What q35 without a screen reads of QEMU's firmware.
const FIRMWARE: &[&str] = &["bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin"];

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// QEMU, the guest's kernel and its initramfs
    Qemu,
}

/// Makes one folder with which `check.sh` tests and measures on any x86-64 Linux machine
///
/// The machine needs neither Rust nor a network; what it lacks (a GPU, KVM) is skipped with the reason. Prints the path of the
/// packed bundle.
#[derive(Args)]
pub struct Bundle {
    /// Where the folder and the packed file are made [default: bundle in cargo's target directory]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Leaves a part out; may be repeated
    #[arg(long, value_enum, value_name = "PART")]
    without: Vec<Part>,
}

impl Bundle {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let out = match &self.out {
            Some(out) => out.clone(),
            None => workspace::target()?.join("bundle"),
        };
        let packed = make(&out, &self.without)?;
        println!("{}", packed.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// A bundle without QEMU, for tests of the rest.
pub fn small(out: &Path) -> Result<PathBuf> {
    make(out, &[Part::Qemu])
}

/// Makes the folder `vgpu-stub-bundle` and its packed file in `out`.
fn make(out: &Path, without: &[Part]) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let root = out.join("vgpu-stub-bundle");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    let stage = shims::stage()?;
    let kernels = nvcc::kernels()?;
    let host = shims::portable("programs for the host", HOST_PACKAGES)?;
    let directory = |name: &str| -> Result<PathBuf> {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    };
    let bin = directory("bin")?;
    for name in HOST_PROGRAMS {
        stripped(&host.join(name), &bin.join(name))?;
    }
    for name in CUDA_PROGRAMS {
        stripped(&stage.join("bin").join(name), &bin.join(name))?;
    }
    let shims = directory("shims/lib")?;
    for soname in shims::sonames() {
        stripped(&stage.join("lib").join(soname), &shims.join(soname))?;
    }
    let ptx = directory("ptx")?;
    copy_all(&kernels, &ptx)?;
    if !without.contains(&Part::Qemu) {
        let installed = qemu::installed()?;
        let kernel = Kernel::fetch()?;
        let qemu = directory("qemu")?;
        let binary = qemu.join("qemu-system-x86_64");
        stripped(&installed.binary, &binary)?;
        closure::copy(&installed.binary, &directory("qemu/lib")?)?;
        let firmware = directory("qemu/firmware")?;
        for name in FIRMWARE {
            let from = installed
                .firmware
                .iter()
                .map(|directory| Path::new(directory).join(name))
                .find(|path| path.is_file())
                .with_context(|| format!("QEMU's firmware has no {name}"))?;
            fs::copy(&from, firmware.join(name))?;
        }
        fs::copy(&kernel.image, qemu.join("vmlinuz"))?;
        fs::write(qemu.join("initramfs"), guest::initramfs(&stage, &kernels)?)?;
    }
    let commit = run::stdout(Command::new("git").current_dir(workspace::root()).args([
        "log",
        "-1",
        "--format=%h %s",
    ]));
    fs::write(root.join("COMMIT"), commit.unwrap_or_default())?;
    write_program(&root.join("check.sh"), include_bytes!("bundle/check.sh"))?;
    pack(out, &root)
}

/// Copies a program without its symbols.
fn stripped(from: &Path, to: &Path) -> Result<()> {
    run::ok(Command::new("strip").arg("-o").arg(to).arg(from))?;
    Ok(())
}

/// Copies a directory's files.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let path = entry?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            fs::copy(&path, to.join(name)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn write_program(path: &Path, text: &[u8]) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Packs the folder; the same content gives the same file.
fn pack(out: &Path, root: &Path) -> Result<PathBuf> {
    apt::ensure(&["xz-utils"])?;
    let packed = out.join("vgpu-stub-bundle.tar.xz");
    let mut step = progress::step("bundle");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--use-compress-program", "xz -6 --threads=0"]);
    tar.arg("-cf").arg(&packed).arg("-C").arg(out);
    let name = root.file_name().context("the bundle has no name")?;
    step.run(tar.arg(name), "bundle")?;
    let bytes = fs::metadata(&packed)?.len();
    let sizes = format!("{:.1} MiB packed", bytes as f64 / f64::from(1 << 20));
    ensure!(
        bytes <= MAX_PACKED_BYTES,
        "{}: {sizes}, more than {} MiB: leave a part out (--without)",
        packed.display(),
        MAX_PACKED_BYTES >> 20
    );
    step.done(&sizes);
    Ok(packed)
}
