//! NVIDIA's compiler out of its Python packages, and PTX made with it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{apt, cache, run, wheels, workspace};

/// Packages that make one toolkit tree. Version 13.0 writes PTX ISA 9.0, which drivers from CUDA 13.0 on take.
pub const PACKAGES: &[&str] = &[
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
];

/// Where the packages put their files.
const INSIDE: &str = "nvidia/cu13";

/// The oldest architecture that this nvcc knows: its PTX runs on all later ones.
pub const ARCHITECTURE: &str = "compute_75";

/// Headers, launch code and runtime of the last CUDA 12, with which the compiler of 13 works: there is no nvcc of 12 among
/// the Python packages.
const PACKAGES_12: &[&str] = &[
    "nvidia-cuda-nvcc-cu12==12.9.86",
    "nvidia-cuda-runtime-cu12==12.9.79",
];

/// The toolkit with CUDA 12's headers lies beside the one whose compiler it uses.
const FOLDER_12: &str = "nvcc-12.9.86-by-13.0.88";

/// The newest nvcc of CUDA 12 that Debian has: suite and package, in the section non-free.
const DEBIAN_12: (&str, &str) = ("trixie", "nvidia-cuda-toolkit");

/// What it needs beside itself. These C++ libraries are the oldest for CUDA 12 that were not taken back.
const BESIDE_DEBIAN_12: &[&str] = &[
    "nvidia-cuda-nvcc-cu12==12.4.131",
    "nvidia-cuda-runtime-cu12==12.4.127",
    "nvidia-cuda-cccl-cu12==12.6.77",
];

/// Where it finds its parts.
const PROFILE_12: &str = "TOP = $(_HERE_)/..
CICC_PATH = $(TOP)/nvvm/bin
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += \"-I$(TOP)/include\" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) \"-L$(TOP)/lib\"
";

/// CUDA's C++ libraries: headers alone. Those of the runtime include some of them.
const LIBRARIES: &str = "nvidia-cuda-cccl==13.0.85";

/// A program's options of its own stand in a line of its source that begins with this.
const OPTIONS: &str = "/* nvcc: ";

/// An unpacked toolkit.
pub struct Toolkit {
    /// The directory with `bin`, `include`, `nvvm`.
    pub root: PathBuf,
}

impl Toolkit {
    /// Gives the toolkit in the cache; downloads and unpacks it first where there is none.
    pub fn fetch() -> Result<Self> {
        if !has("g++") {
            apt::ensure(&["g++"])?;
        }
        let tree = wheels::tree("nvcc", "nvcc", PACKAGES, |tree| {
            let root = tree.join(INSIDE);
            make_executable(&root.join("bin"))?;
            make_executable(&root.join("nvvm/bin"))?;
            std::os::unix::fs::symlink("lib", root.join("lib64"))?;
            Ok(())
        })?;
        Ok(Self {
            root: tree.join(INSIDE),
        })
    }

    /// Gives the same compiler with the headers of CUDA 12: programs link `libcudart.so.12` and launch as that version's
    /// headers have it.
    pub fn with_headers_of_12(&self) -> Result<Self> {
        let tree = wheels::tree(FOLDER_12, "headers of CUDA 12", PACKAGES_12, |tree| {
            let root = tree.join("toolkit");
            let runtime = tree.join("nvidia/cuda_runtime");
            let include = root.join("include");
            for folder in ["bin", "include", "lib"] {
                fs::create_dir_all(root.join(folder))?;
            }
            // nvcc finds its folders from where its file is: links to it do not do.
            copy_all(&self.root.join("bin"), &root.join("bin"))?;
            copy_all(&runtime.join("include"), &include)?;
            copy_all(&tree.join("nvidia/cuda_nvcc/include"), &include)?;
            std::os::unix::fs::symlink(self.root.join("nvvm"), root.join("nvvm"))?;
            std::os::unix::fs::symlink("lib", root.join("lib64"))?;
            copy_all(&runtime.join("lib"), &root.join("lib"))?;
            std::os::unix::fs::symlink("libcudart.so.12", root.join("lib/libcudart.so"))?;
            // The newer compiler tells this macro one thing more, which is of no use here.
            let launch = include.join("crt/host_runtime.h");
            let text = fs::read_to_string(&launch)?;
            let (old, new) = ("define __cudaLaunch(fun)", "define __cudaLaunch(fun, ...)");
            ensure!(
                text.contains(old),
                "{} is not as expected",
                launch.display()
            );
            fs::write(&launch, text.replace(old, new))?;
            Ok(())
        })?;
        Ok(Self {
            root: tree.join("toolkit"),
        })
    }

    /// Gives Debian's nvcc of CUDA 12, with NVIDIA's headers and runtime of the same version.
    pub fn of_12() -> Result<Self> {
        let (suite, package) = DEBIAN_12;
        let tree = wheels::tree(
            "nvcc-12.4",
            "Debian's nvcc of CUDA 12",
            BESIDE_DEBIAN_12,
            |tree| {
                let debian = tree.join("debian");
                apt::Suite::open(suite)?.unpack(package, &debian)?;
                let (root, lib) = (
                    tree.join("toolkit"),
                    debian.join("usr/lib/nvidia-cuda-toolkit"),
                );
                let (bin, include) = (root.join("bin"), root.join("include"));
                fs::create_dir_all(root.join("nvvm/bin"))?;
                copy_all(&lib.join("bin/crt"), &bin.join("crt"))?;
                copy_all(&lib.join("libdevice"), &root.join("nvvm/libdevice"))?;
                fs::copy(lib.join("bin/nvcc"), bin.join("nvcc"))?;
                fs::copy(lib.join("bin/cicc"), root.join("nvvm/bin/cicc"))?;
                for part in ["cudafe++", "fatbinary", "ptxas", "nvlink"] {
                    fs::copy(debian.join("usr/bin").join(part), bin.join(part))
                        .with_context(|| format!("{package} has no {part}"))?;
                }
                fs::write(bin.join("nvcc.profile"), PROFILE_12)?;
                for part in ["cuda_runtime", "cuda_nvcc"] {
                    copy_all(&tree.join("nvidia").join(part).join("include"), &include)?;
                }
                copy_all(&tree.join("nvidia/cuda_cccl/include"), &include)?;
                copy_all(&tree.join("nvidia/cuda_runtime/lib"), &root.join("lib"))?;
                std::os::unix::fs::symlink("libcudart.so.12", root.join("lib/libcudart.so"))?;
                fs::remove_dir_all(&debian)?;
                Ok(())
            },
        )?;
        Ok(Self {
            root: tree.join("toolkit"),
        })
    }

    /// CUDA's C++ libraries for it.
    fn libraries(&self) -> Result<PathBuf> {
        let own = self.root.join("include");
        if own.join("cub").is_dir() {
            return Ok(own);
        }
        let libraries = wheels::tree("cccl", "CUDA's C++ libraries", &[LIBRARIES], |_| Ok(()))?;
        Ok(libraries.join(INSIDE).join("include/cccl"))
    }

    /// Compiles and links a program that uses the shared runtime, where the cache has not got it. The source's own
    /// options and the headers beside it count.
    pub fn program(&self, source: &Path, options: &[&str]) -> Result<PathBuf> {
        let text =
            fs::read_to_string(source).with_context(|| format!("read {}", source.display()))?;
        let stem = source.file_stem().context("the source has no name")?;
        let include = self.libraries()?;
        let mut words: Vec<&str> = options.to_vec();
        if let Some(own) = text.lines().find_map(|line| line.strip_prefix(OPTIONS)) {
            words.extend(own.trim_end().trim_end_matches("*/").split_whitespace());
        }
        let mut headers = Vec::new();
        for entry in fs::read_dir(source.parent().context("the source has no folder")?)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "h") {
                headers.push((path.clone(), fs::read_to_string(path)?));
            }
        }
        headers.sort();
        let headers: Vec<_> = headers.into_iter().map(|(_, text)| text).collect();
        let hash = cache::hash(&(&text, &words, headers, PACKAGES, &self.root, &include));
        let program = cache::dir("programs")?.join(format!("{}-{hash}", stem.to_string_lossy()));
        if program.is_file() {
            return Ok(program);
        }
        let new = program.with_extension(format!("{}.new", std::process::id()));
        let mut nvcc = self.nvcc();
        nvcc.args(&words)
            .args(["-cudart", "shared", "-cudadevrt", "none"]);
        nvcc.arg("-I").arg(include);
        run::ok(nvcc.arg("-o").arg(&new).arg(source))?;
        fs::rename(&new, &program)?;
        Ok(program)
    }

    /// The compiler, which is not to mind this machine's own one.
    pub fn nvcc(&self) -> Command {
        let mut nvcc = Command::new(self.root.join("bin/nvcc"));
        nvcc.arg("-allow-unsupported-compiler");
        nvcc
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
        let mut nvcc = self.nvcc();
        nvcc.arg("-ptx").args(options);
        if !options.iter().any(|option| option.starts_with("-arch=")) {
            nvcc.arg(format!("-arch={ARCHITECTURE}"));
        }
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

/// Copies a folder's content, links as what they point to.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_all(&from, &to)?;
        } else {
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
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
