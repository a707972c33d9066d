//! What libraries of others export and import: read out of Python packages, and kept as lists in `tests/abi/imports`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::{apt, cache, corpus, progress, run, workspace};

/// Where the lists are.
pub const IMPORTS: &str = "tests/abi/imports";

const SCRIPT: &str = include_str!("abi/wheel_symbols.py");

/// Programs in Python packages: requirement, and the libraries that use CUDA.
const WHEELS: &[(&str, &[&str])] = &[
    ("torch==2.6.0", TORCH),
    ("torch==2.7.1", TORCH),
    ("torch==2.8.0", TORCH),
    ("torch==2.9.1", TORCH),
    ("torch==2.10.0", TORCH),
    ("torch==2.11.0", TORCH),
    ("torch==2.12.1", TORCH),
    ("torch==2.13.0", TORCH),
    ("torch==2.14.1", TORCH),
    ("torch==2.15.0", TORCH),
    ("onnxruntime-gpu==1.20.0", ALL),
    ("onnxruntime-gpu==1.22.0", ALL),
    ("onnxruntime-gpu", ALL),
    ("cupy-cuda11x==13.6.0", ALL),
    ("cupy-cuda12x==14.2.0", ALL),
    ("cupy-cuda13x==14.2.0", ALL),
];
const ALL: &[&str] = &["*"];
const TORCH: &[&str] = &[
    "libtorch_cuda*",
    "libtorch_nvshmem*",
    "libc10_cuda*",
    "libtorch_python*",
    "libcaffe2_nvrtc*",
    "libtorch_global_deps*",
];

/// Reads anew what PyTorch, ONNX Runtime, CuPy and llama.cpp import from CUDA's libraries, into tests/abi/imports
#[derive(Args)]
pub struct AbiImports {
    /// Only lists whose names begin so
    #[arg(long)]
    only: Option<String>,
}

impl AbiImports {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let folder = workspace::root().join(IMPORTS);
        fs::create_dir_all(&folder)?;
        let wanted = |name: &str| self.only.as_ref().is_none_or(|only| name.starts_with(only));
        for (requirement, patterns) in WHEELS {
            let name = requirement.replace("==", "-");
            if wanted(&name) {
                let rows = symbols(requirement, patterns, true)?;
                write(&folder, &name, &format!("PyPI's {requirement}"), &rows)?;
            }
        }
        for (name, what, folder_of) in [
            (
                "ggml-debian",
                "Debian's libggml0-backend-cuda",
                corpus::debian as fn() -> _,
            ),
            (
                "ggml-npm",
                "npm's @node-llama-cpp/linux-x64-cuda",
                corpus::npm_required,
            ),
        ] {
            if wanted(name) {
                let mut rows = Vec::new();
                for library in corpus::libraries(&folder_of()?)? {
                    rows.extend(of_file(&library)?);
                }
                write(&folder, name, what, &rows)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A symbol of a library.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// The library that has it, as its path in the package.
    pub file: String,
    /// It is there, not only asked for.
    pub defined: bool,
    /// Its name.
    pub name: String,
    /// Its version node.
    pub version: Option<String>,
}

/// pip, and the script that reads parts of packages with it.
fn script() -> Result<Command> {
    if run::ok(Command::new("python3").args(["-m", "pip", "--version"])).is_err() {
        apt::ensure(&["python3-pip"])?;
    }
    let script = cache::dir("abi")?.join("wheel_symbols.py");
    fs::write(&script, SCRIPT)?;
    let mut command = Command::new("python3");
    command.arg(&script);
    Ok(command)
}

/// A directory with the files of a Python package (one version of it) whose names match; nothing else of the package is
/// downloaded, and the folders that they lie in there are left out.
pub fn files(requirement: &str, patterns: &[&str]) -> Result<PathBuf> {
    let directory = cache::dir("abi")?.join(format!("{requirement}-files"));
    let stamp = cache::Stamp::new(directory.join(".patterns"), patterns.join(" "));
    if stamp.is_set() {
        return Ok(directory);
    }
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let step = progress::step(&format!("files of {requirement}"));
    run::ok(
        script()?
            .arg("--files")
            .arg(&directory)
            .arg(requirement)
            .args(patterns),
    )?;
    stamp.set()?;
    step.done("");
    Ok(directory)
}

/// The symbols of the libraries in a Python package whose names match. Read once; later runs find them in the cache.
/// `whole` reads whole libraries where the beginning does not say all.
pub fn symbols(requirement: &str, patterns: &[&str], whole: bool) -> Result<Vec<Symbol>> {
    let key: String = format!("{requirement} {}", patterns.join(" "))
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || ".-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let file = cache::dir("abi")?.join(format!("{key}.txt"));
    // A requirement without a version means the newest there is.
    let fixed = requirement.contains("==");
    if !(fixed && file.is_file()) {
        let step = progress::step(&format!("symbols of {requirement}"));
        let mut command = script()?;
        if whole {
            command.arg("--whole");
        }
        let text = run::stdout(command.arg(requirement).args(patterns))?;
        let new = file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, &file)?;
        step.done("");
    }
    let text = fs::read_to_string(&file)?;
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let [file, kind, name, version] = words.as_slice() else {
                anyhow::bail!("{requirement}: no symbol: {line}");
            };
            Ok(Symbol {
                file: (*file).to_owned(),
                defined: *kind == "D",
                name: (*name).to_owned(),
                version: (*version != "-").then(|| (*version).to_owned()),
            })
        })
        .collect()
}

/// The dynamic symbols of a file on this machine.
pub fn of_file(library: &Path) -> Result<Vec<Symbol>> {
    let text = run::stdout(Command::new("nm").arg("-D").arg(library))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().rev();
            let (name, kind) = (words.next()?, words.next()?);
            let (name, version) = match name.split_once('@') {
                Some((name, version)) => (name, Some(version.trim_start_matches('@').to_owned())),
                None => (name, None),
            };
            Some(Symbol {
                file: library.display().to_string(),
                defined: !matches!(kind, "U" | "w" | "v"),
                name: name.to_owned(),
                version,
            })
        })
        .collect())
}

/// The library of ours that a symbol is asked of, if it is one of CUDA's.
fn library(symbol: &Symbol) -> Option<String> {
    let versioned = ["libcudart.so", "libcublas.so", "libcublasLt.so"];
    match &symbol.version {
        Some(version) if versioned.iter().any(|l| version.starts_with(l)) => Some(version.clone()),
        Some(_) => None,
        None => {
            let driver = symbol.name.strip_prefix("cu").is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_uppercase()) && !rest.starts_with("File")
            });
            if driver {
                Some("libcuda.so.1".to_owned())
            } else {
                symbol
                    .name
                    .starts_with("nvml")
                    .then(|| "libnvidia-ml.so.1".to_owned())
            }
        }
    }
}

/// Writes a list: a line for each library and name.
fn write(folder: &Path, name: &str, what: &str, rows: &[Symbol]) -> Result<()> {
    let own: BTreeSet<&str> = rows
        .iter()
        .filter(|s| s.defined)
        .map(|s| s.name.as_str())
        .collect();
    let imports: BTreeSet<(String, &str)> = rows
        .iter()
        .filter(|s| !s.defined && (s.version.is_some() || !own.contains(s.name.as_str())))
        .filter_map(|s| Some((library(s)?, s.name.as_str())))
        .collect();
    ensure!(!imports.is_empty(), "{what} imports nothing of CUDA's");
    let mut text = format!(
        "# What {what} imports from CUDA's libraries. Made by `cargo xtask abi-imports`.\n"
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (library, symbol) in &imports {
        writeln!(text, "{library} {symbol}")?;
        *counts.entry(library).or_default() += 1;
    }
    println!("{name}: {counts:?}");
    let path = folder.join(format!("{name}.txt"));
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Symbols that are asked of libraries.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// The lists: name, and for each library the symbols that are asked of it.
pub fn imports() -> Result<Vec<(String, Imports)>> {
    let folder = workspace::root().join(IMPORTS);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("list {IMPORTS}"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    files
        .iter()
        .map(|file| {
            let mut of = Imports::new();
            for line in fs::read_to_string(file)?
                .lines()
                .filter(|l| !l.starts_with('#'))
            {
                let (library, name) = line
                    .split_once(' ')
                    .with_context(|| format!("{}: {line}", file.display()))?;
                of.entry(library.to_owned())
                    .or_default()
                    .insert(name.to_owned());
            }
            let name = file.file_stem().context("a file without a name")?;
            Ok((name.to_string_lossy().into_owned(), of))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, version: Option<&str>) -> Symbol {
        Symbol {
            file: String::new(),
            defined: false,
            name: name.to_owned(),
            version: version.map(str::to_owned),
        }
    }

    #[test]
    fn a_symbol_belongs_to_the_library_of_its_version_or_name() {
        let of = |name, version| library(&symbol(name, version));
        assert_eq!(
            of("cudaMalloc", Some("libcudart.so.12")).as_deref(),
            Some("libcudart.so.12")
        );
        assert_eq!(of("cuInit", None).as_deref(), Some("libcuda.so.1"));
        assert_eq!(
            of("nvmlInit_v2", None).as_deref(),
            Some("libnvidia-ml.so.1")
        );
        assert_eq!(of("cuFileRead", None), None);
        assert_eq!(of("cufftExecC2C", Some("libcufft.so.11")), None);
        assert_eq!(of("malloc", Some("GLIBC_2.2.5")), None);
    }

    #[test]
    fn the_lists_are_there() {
        let lists = imports().expect("the lists");
        for wanted in [
            "torch-2.6.0",
            "torch-2.15.0",
            "ggml-debian",
            "cupy-cuda13x-14.2.0",
        ] {
            assert!(lists.iter().any(|(name, _)| name == wanted), "{wanted}");
        }
    }
}
