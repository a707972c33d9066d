//! Configures and compiles QEMU, and collects the firmware that it boots with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use super::patch;
use super::source::{self, Origin};
use super::step;
use crate::apt::{self, Suite};
use crate::cache::{self, Stamp, write_if_changed};
use crate::run;
use crate::workspace;

/// What the build needs, by Debian's names.
const PACKAGES: &[&str] = &[
    "bison",
    "build-essential",
    "bzip2",
    "flex",
    "libattr1-dev",
    "libcap-ng-dev",
    "libclang-dev",
    "libfdt-dev",
    "libglib2.0-dev",
    "libpixman-1-dev",
    "libslirp-dev",
    "ninja-build",
    "pkg-config",
    "python3",
    "python3-venv",
    "seabios",
];

/// Options of QEMU's configure.
const OPTIONS: &[&str] = &[
    "--disable-download",
    "--target-list=x86_64-softmmu",
    "--without-default-features",
    "--enable-tcg",
    "--enable-kvm",
    "--enable-pixman",
    "--enable-fdt=system",
    "--enable-virtfs",
    "--enable-attr",
    "--enable-cap-ng",
    "--enable-slirp",
    "--enable-trace-backends=log",
    "--disable-docs",
    "--disable-install-blobs",
    // A third of the compile time; symbols stay.
    "--disable-debug-info",
];

/// The program that is built.
const PROGRAM: &str = "qemu-system-x86_64";
/// What of the checkout ends up in QEMU.
const INPUTS: &[&str] = &[
    ".cargo/config.toml",
    "Cargo.lock",
    "Cargo.toml",
    "build.rs",
    "ffi",
    "mediator-lib",
    "meson-snippets",
    "qemu-device",
];
/// Where Debian keeps SeaBIOS.
const SEABIOS: &str = "/usr/share/seabios";
/// The suite whose meson is taken: QEMU wants 1.5 or newer, bookworm has 1.0.
const MESON_SUITE: &str = "trixie";
/// An empty bzip2 file.
const EMPTY_BZIP2: &[u8] = b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0";

/// A QEMU that can be run.
pub struct Installed {
    /// qemu-system-x86_64.
    pub binary: PathBuf,
    /// Arguments by which it finds its BIOS and option roms.
    pub firmware: Vec<String>,
}

impl Installed {
    /// Somebody else's QEMU, which knows where its firmware is.
    pub fn plain(binary: PathBuf) -> Result<Self> {
        Ok(Self {
            binary,
            firmware: Vec::new(),
        })
    }
}

/// Whether QEMU is built with the device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// --enable-vgpu-stub
    With,
    /// --disable-vgpu-stub
    Without,
}

/// The directories of one build.
struct Places {
    build: PathBuf,
    firmware: PathBuf,
    stamp: PathBuf,
}

impl Places {
    fn of(origin: &Origin, device: Device) -> Result<Places> {
        let dir = origin.dir()?;
        let name = if device == Device::With {
            "build"
        } else {
            "build-plain"
        };
        Ok(Places {
            build: dir.join(name),
            firmware: dir.join("firmware"),
            stamp: dir.join(format!("{name}.stamp")),
        })
    }

    fn installed(&self) -> Installed {
        Installed {
            binary: self.build.join(PROGRAM),
            firmware: vec!["-L".to_owned(), self.firmware.display().to_string()],
        }
    }
}

/// The last build of an origin, as it is.
pub fn last(origin: &Origin) -> Result<Installed> {
    let installed = Places::of(origin, Device::With)?.installed();
    ensure!(
        installed.binary.is_file(),
        "there is no QEMU yet: run `cargo xtask qemu build`"
    );
    Ok(installed)
}

/// Builds what is not up to date.
pub fn build(origin: &Origin, device: Device) -> Result<Installed> {
    let places = Places::of(origin, device)?;
    let installed = places.installed();
    // A user's tree may change without our noticing: it is compared file by file below.
    let watched = !matches!(origin, Origin::Tree(_));
    let current = || -> Result<Stamp> { Ok(Stamp::new(&places.stamp, inputs(device)?)) };
    if watched && current()?.is_set() && installed.binary.is_file() {
        return Ok(installed);
    }
    let _lock = cache::lock("qemu")?;
    let stamp = current()?;
    if watched && stamp.is_set() && installed.binary.is_file() {
        return Ok(installed);
    }
    apt::ensure(PACKAGES)?;
    let tree = source::fetch(origin)?.dir;
    let patched = patch::apply(&tree)?;
    if !patched.nothing() {
        eprintln!("QEMU: device added to the source tree, or updated");
    }
    placeholders(&tree)?;
    configure(&tree, &places.build, device)?;
    compile(&places.build, &tree)?;
    firmware(&tree, &places.firmware)?;
    if device == Device::With {
        check(&installed)?;
    }
    stamp.set()?;
    Ok(installed)
}

/// Installs the last build below a directory, as a package does, and gives its program there.
pub fn install(origin: &Origin, to: &Path) -> Result<PathBuf> {
    let build = Places::of(origin, Device::With)?.build;
    let meson = || {
        let mut meson = Command::new(build.join("pyvenv/bin/meson"));
        meson.current_dir(&build);
        meson
    };
    let mut step = step("install");
    let plan = run::stdout(meson().args(["introspect", "--installed"]))?;
    let plan: BTreeMap<PathBuf, PathBuf> = serde_json::from_str(&plan)?;
    // Of the whole build what is installed: QEMU's own tests would be most of it.
    let missing = plan.keys().filter(|file| !file.exists());
    let missing: Vec<&Path> = missing
        .filter_map(|file| file.strip_prefix(&build).ok())
        .collect();
    if !missing.is_empty() {
        let mut ninja = Command::new("ninja");
        step.run(ninja.arg("-C").arg(&build).args(missing), "qemu-install")?;
    }
    let mut install = meson();
    install.args(["install", "--no-rebuild", "--quiet", "--destdir"]);
    step.run(install.arg(to), "qemu-install")?;
    step.done("");
    let program = plan.values().find(|path| path.ends_with(PROGRAM));
    let program = program.with_context(|| format!("meson installs no {PROGRAM}"))?;
    Ok(to.join(program.strip_prefix("/").unwrap_or(program)))
}

/// Whatever the result depends on, as text.
fn inputs(device: Device) -> Result<String> {
    let mut text = format!("{}\n", OPTIONS.join(" "));
    if device == Device::Without {
        return Ok(text);
    }
    let root = workspace::root();
    writeln!(text, "{} {}", root.display(), workspace::cargo())?;
    let mut paths: Vec<PathBuf> = INPUTS.iter().map(|name| root.join(name)).collect();
    while let Some(path) = paths.pop() {
        let Ok(meta) = fs::metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            let mut below = fs::read_dir(&path)?
                .map(|e| Ok(e?.path()))
                .collect::<Result<Vec<_>>>()?;
            below.sort();
            paths.extend(below);
        } else {
            let age = meta
                .modified()?
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            writeln!(text, "{} {} {}", path.display(), meta.len(), age.as_nanos())?;
        }
    }
    Ok(text)
}

/// Debian's tarball lacks the firmware images that meson unpacks although none is installed.
fn placeholders(tree: &Path) -> Result<()> {
    let list = fs::read_to_string(tree.join("pc-bios/meson.build"))?;
    for name in list
        .split('\'')
        .filter(|word| word.starts_with("edk2-") && word.ends_with(".fd"))
    {
        let file = tree.join(format!("pc-bios/{name}.bz2"));
        if !file.exists() {
            fs::write(&file, EMPTY_BZIP2).with_context(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

fn configure(tree: &Path, build: &Path, device: Device) -> Result<()> {
    let switch = match device {
        Device::With => "--enable-vgpu-stub",
        Device::Without => "--disable-vgpu-stub",
    };
    let version = source::version(tree)?;
    let stamp = Stamp::new(
        build.with_extension("configured"),
        format!(
            "{version} {} {} {switch}\n",
            tree.display(),
            OPTIONS.join(" ")
        ),
    );
    if stamp.is_set() && build.join("build.ninja").is_file() {
        return Ok(());
    }
    stamp.clear()?;
    if build.is_dir() {
        fs::remove_dir_all(build).with_context(|| format!("remove {}", build.display()))?;
    }
    fs::create_dir_all(build)?;
    let python = python()?;
    let mut step = step("configure");
    let mut command = Command::new(tree.join("configure"));
    command
        .current_dir(build)
        .arg(format!("--python={}", python.display()))
        .args(OPTIONS)
        .arg(switch);
    step.run(&mut command, "qemu-configure")?;
    stamp.set()?;
    step.done(&format!("{version} {switch}"));
    Ok(())
}

/// A Python with the meson that QEMU's configure wants.
fn python() -> Result<PathBuf> {
    let base = ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(|name| run::ok(Command::new(name).args(["-c", "import venv, ensurepip"])).is_ok())
        .context("no python3 with the modules venv and ensurepip")?;
    let dir = cache::dir("python")?;
    let python = dir.join("bin/python3");
    let version = run::stdout(Command::new(base).arg("--version"))?;
    let stamp = Stamp::new(dir.join("made"), version);
    if stamp.is_set() && python.exists() {
        return Ok(python);
    }
    let mut step = step("meson");
    fs::remove_dir_all(&dir)?;
    step.run(
        Command::new(base).args(["-m", "venv"]).arg(&dir),
        "qemu-venv",
    )?;
    if let Err(error) = meson_from_debian(&python) {
        // Not on Debian: the package index that pip is configured for.
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "meson>=1.5",
            "pycotap",
            "tomli",
            "distlib",
        ]);
        step.run(&mut pip, "qemu-pip")
            .with_context(|| format!("no meson, neither from Debian ({error:#}) nor from pip"))?;
    }
    stamp.set()?;
    step.done("");
    Ok(python)
}

fn meson_from_debian(python: &Path) -> Result<()> {
    let suite = Suite::open(MESON_SUITE)?;
    let unpacked = cache::dir("apt")?.join("meson");
    if unpacked.is_dir() {
        fs::remove_dir_all(&unpacked)?;
    }
    for package in ["meson", "python3-pycotap", "python3-distlib"] {
        suite.unpack(package, &unpacked)?;
    }
    let purelib = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let site = run::stdout(Command::new(python).args(["-c", purelib]))?;
    let from = unpacked.join("usr/lib/python3/dist-packages/.");
    run::ok(Command::new("cp").arg("-a").arg(from).arg(site.trim()))?;
    run::ok(Command::new(python).args(["-c", "import mesonbuild, pycotap"]))?;
    Ok(())
}

fn compile(build: &Path, tree: &Path) -> Result<()> {
    let mut step = step("compile");
    let mut ninja = Command::new("ninja");
    ninja.arg("-C").arg(build).arg(PROGRAM);
    step.run(&mut ninja, "qemu-compile")?;
    step.done(&source::version(tree)?);
    Ok(())
}

/// One folder with SeaBIOS and QEMU's own option roms, for `-L`.
fn firmware(tree: &Path, dir: &Path) -> Result<()> {
    let stamp = Stamp::new(dir.join("made"), source::version(tree)?);
    if stamp.is_set() {
        return Ok(());
    }
    let mut step = step("firmware");
    fs::create_dir_all(dir)?;
    // QEMU's configure skips the option roms without a 32-bit libgcc, which they do not use.
    let settings = format!(
        "TOPSRC_DIR={}\nCC=cc\nOBJCOPY=objcopy\nPYTHON=python3\n",
        tree.display()
    );
    let work = dir.join("build");
    write_if_changed(&work.join("config.mak"), settings.as_bytes())?;
    let mut make = Command::new("make");
    make.current_dir(&work)
        .arg("-f")
        .arg(tree.join("pc-bios/optionrom/Makefile"));
    step.run(&mut make, "qemu-firmware")?;
    for folder in [Path::new(SEABIOS), &work] {
        for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            if let (Some(name), Some("bin")) =
                (path.file_name(), path.extension().and_then(|e| e.to_str()))
            {
                fs::copy(&path, dir.join(name))
                    .with_context(|| format!("copy {}", path.display()))?;
            }
        }
    }
    for needed in ["bios-256k.bin", "linuxboot_dma.bin", "kvmvapic.bin"] {
        if !dir.join(needed).is_file() {
            bail!("{needed} is missing in {SEABIOS} and in QEMU's option roms");
        }
    }
    stamp.set()?;
    step.done("");
    Ok(())
}

/// The device is in the program and names its options.
fn check(installed: &Installed) -> Result<()> {
    let help = run::stdout(Command::new(&installed.binary).args(["-device", "vgpu-stub,help"]))?;
    ensure!(
        help.contains("vm_id="),
        "{}: the device lists no vm_id:\n{help}",
        installed.binary.display()
    );
    Ok(())
}
