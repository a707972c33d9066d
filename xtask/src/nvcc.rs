//! NVIDIA's compiler out of its Python packages, and PTX made with it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{apt, cache, progress, run, workspace};

/// Packages that make one toolkit tree. Version 13.0 writes PTX ISA 9.0, which drivers from CUDA 13.0 on take.
const PACKAGES: &[&str] = &[
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
];

/// Where the packages put their files.
const INSIDE: &str = "nvidia/cu13";

/// The oldest architecture that this nvcc knows: its PTX runs on all later ones.
pub const ARCHITECTURE: &str = "compute_75";

/// An unpacked toolkit.
pub struct Toolkit {
    /// The directory with `bin`, `include`, `nvvm`.
    pub root: PathBuf,
}

impl Toolkit {
    /// Gives the toolkit in the cache; downloads and unpacks it first where there is none.
    pub fn fetch() -> Result<Self> {
        let dir = cache::dir("nvcc")?;
        let tree = dir.join("tree");
        let root = tree.join(INSIDE);
        let stamp = dir.join("unpacked");
        let wanted = PACKAGES.join("\n");
        let cached = || {
            root.join("bin/nvcc").is_file()
                && fs::read_to_string(&stamp).is_ok_and(|is| is == wanted)
        };
        if cached() {
            return Ok(Self { root });
        }
        let _lock = cache::lock("nvcc")?;
        if cached() {
            return Ok(Self { root });
        }
        let step = progress::step("nvcc: download and unpack");
        if run::ok(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
            apt::ensure(&["python3-pip"])?;
        }
        if !has("g++") {
            apt::ensure(&["g++"])?;
        }
        for old in [&tree, &dir.join("wheels")] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        let wheels = dir.join("wheels");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]);
        for platform in [
            "manylinux_2_28",
            "manylinux_2_17",
            "manylinux2014",
            "manylinux2010",
        ] {
            pip.arg("--platform").arg(format!("{platform}_x86_64"));
        }
        run::ok(pip.arg("--dest").arg(&wheels).args(PACKAGES))?;
        for wheel in fs::read_dir(&wheels)? {
            let mut unzip = Command::new("python3");
            run::ok(
                unzip
                    .args(["-m", "zipfile", "-e"])
                    .arg(wheel?.path())
                    .arg(&tree),
            )?;
        }
        fs::remove_dir_all(&wheels)?;
        make_executable(&root.join("bin"))?;
        make_executable(&root.join("nvvm/bin"))?;
        std::os::unix::fs::symlink("lib", root.join("lib64"))?;
        fs::write(&stamp, wanted)?;
        step.done("13.0");
        Ok(Self { root })
    }

    /// Compiles `source` to PTX; the file's name in the cache comes from all that goes into it.
    pub fn ptx(&self, source: &Path, options: &[&str]) -> Result<PathBuf> {
        let text = fs::read(source).with_context(|| format!("read {}", source.display()))?;
        let stem = source
            .file_stem()
            .and_then(|stem| stem.to_str())
            .context("the source has no name")?;
        let mut hasher = DefaultHasher::new();
        (&text, options, PACKAGES, ARCHITECTURE).hash(&mut hasher);
        let output = cache::dir("ptx")?.join(format!("{stem}-{:016x}.ptx", hasher.finish()));
        if output.is_file() {
            return Ok(output);
        }
        // Under another name first: an interrupted run leaves no half of it.
        let new = output.with_extension(format!("{}.new", std::process::id()));
        let mut nvcc = Command::new(self.root.join("bin/nvcc"));
        nvcc.args([
            "-ptx",
            &format!("-arch={ARCHITECTURE}"),
            "-allow-unsupported-compiler",
        ])
        .args(options);
        run::ok(nvcc.arg("-o").arg(&new).arg(source))?;
        fs::rename(&new, &output)?;
        Ok(output)
    }
}

/// Compiles all kernels of the test programs, and gives the directory with `NAME.ptx` for each `NAME.cu`.
pub fn kernels() -> Result<PathBuf> {
    let toolkit = Toolkit::fetch()?;
    let from = workspace::root().join("tests/programs/kernels");
    let to = workspace::target()?.join("guest/ptx");
    fs::create_dir_all(&to)?;
    let mut count = 0;
    for entry in fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
        let source = entry?.path();
        if source
            .extension()
            .is_some_and(|extension| extension == "cu")
        {
            let name = source.with_extension("ptx");
            let name = name.file_name().context("the source has no name")?;
            let made = toolkit.ptx(&source, &[])?;
            if fs::read(to.join(name)).ok() != Some(fs::read(&made)?) {
                fs::copy(&made, to.join(name))?;
            }
            count += 1;
        }
    }
    ensure!(count > 0, "{} holds no .cu file", from.display());
    Ok(to)
}

/// Whether a program is on the path.
fn has(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn make_executable(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
