//! The CUDA runtime's libraries against NVIDIA's: names, version nodes, structures, and programs that nvcc makes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use super::{BUILD_LIMIT, Tally, cargo, first_line, libtest, tally};
use crate::device::Device;
use crate::local::Served;
use crate::{abi, cudart, nvcc, programs, progress, run, shims, wheels, workspace};

/// NVIDIA's packages, the library in each, and which of ours stands for it.
pub const REAL: &[(&str, &str, &str)] = &[
    (
        "nvidia-cuda-runtime-cu11==11.8.89",
        "nvidia/cuda_runtime",
        "libcudart.so.11.0",
    ),
    (
        "nvidia-cuda-runtime-cu12==12.4.127",
        "nvidia/cuda_runtime",
        "libcudart.so.12",
    ),
    (
        "nvidia-cuda-runtime-cu12==12.9.79",
        "nvidia/cuda_runtime",
        "libcudart.so.12",
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "nvidia/cu13",
        "libcudart.so.13",
    ),
    (
        "nvidia-cuda-runtime==13.5.37",
        "nvidia/cu13",
        "libcudart.so.13",
    ),
];

/// How programs are compiled: the code around launches changed in CUDA 12.9, and the old one is on request.
const LAUNCHES: [(&str, &[&str]); 2] = [
    ("", &[]),
    (
        "legacy",
        &["-D__NV_LEGACY_LAUNCH", "-Xcompiler", "-D__NV_LEGACY_LAUNCH"],
    ),
];

/// Programs that are written in C against each version's headers: name, source, options.
const BY_VERSION: [(&str, &str, &[&str]); 3] = [
    ("versions", "versions.c", &[]),
    ("generations", "generations.c", &[]),
    (
        "generations-per-thread",
        "generations.c",
        &["-DCUDA_API_PER_THREAD_DEFAULT_STREAM"],
    ),
];

/// The kernels for them.
const BY_VERSION_KERNELS: &str = "versions_kernels.cu";

/// Runs all of it.
pub fn stage(name: &str) -> Result<Tally> {
    let toolkit = nvcc::Toolkit::fetch()?;
    let stage = shims::stage()?;
    let mut sum = Tally::default();
    let mut headers = Vec::new();
    let mut programs = compile(&toolkit, &stage)?;
    sum.add(match written_by_nvcc(&programs) {
        Ok(()) => Tally::passed(1),
        Err(error) => Tally::failed(format!("{name}: what nvcc's code calls: {error:#}")),
    });
    let by_version = ByVersion::new(&toolkit, &stage)?;
    for (package, inside, soname) in REAL {
        let version = package.split("==").nth(1).context("no version")?;
        let folder = format!("cudart-{version}");
        let real = wheels::tree(&folder, package, &[*package], |_| Ok(()))?.join(inside);
        let what = format!("{soname} has the names of {version}");
        sum.add(
            match names(
                &real.join("lib").join(soname),
                &stage.join("lib").join(soname),
            ) {
                Ok(()) => Tally::passed(1),
                Err(error) => Tally::failed(format!("{name}: {what}: {error:#}")),
            },
        );
        let include = real.join("include");
        programs.extend(by_version.programs(version, &include, soname)?);
        headers.push(include);
    }
    headers.push(toolkit.root.join("include"));
    sum.add(layouts(name, &headers)?);
    let served = Served::start(&Device::default())?;
    for (part, program) in programs {
        sum.add(one(name, &part, &program, &served)?);
    }
    Ok(sum)
}

/// Exported functions with their version nodes, `name@@node`.
fn exported(library: &Path) -> Result<BTreeSet<String>> {
    let text = run::stdout(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library),
    )?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .filter(|name| name.contains("@@"))
        .map(str::to_owned)
        .collect())
}

/// Every name of the real library is in ours, with the same node.
fn names(real: &Path, ours: &Path) -> Result<()> {
    let (real, ours) = (exported(real)?, exported(ours)?);
    ensure!(
        real.len() > 300,
        "NVIDIA's library has {} names",
        real.len()
    );
    let missing: Vec<_> = real.difference(&ours).collect();
    ensure!(missing.is_empty(), "missing: {missing:?}");
    Ok(())
}

/// The names that stand in no source: the code around kernels and variables, which nvcc writes, calls them. Each is
/// called by one of the programs.
fn written_by_nvcc(programs: &[(String, PathBuf)]) -> Result<()> {
    let mut called = BTreeSet::new();
    for (_, program) in programs {
        let symbols = abi::of_file(program)?;
        called.extend(symbols.into_iter().filter(|s| !s.defined).map(|s| s.name));
    }
    let list = workspace::root().join(cudart::PROGRAMS).join("nvcc.txt");
    let text =
        std::fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let missing: Vec<_> = text
        .lines()
        .filter(|name| !called.contains(*name))
        .collect();
    ensure!(missing.is_empty(), "no program calls {missing:?}");
    Ok(())
}

/// The structures of the crate, compared with the headers by its own test.
fn layouts(name: &str, headers: &[PathBuf]) -> Result<Tally> {
    let mut command = cargo(
        BUILD_LIMIT,
        &["test", "--package", "vgpu-cudart", "--", "--ignored"],
    );
    command.env("VGPU_CUDART_HEADERS", std::env::join_paths(headers)?);
    libtest(&format!("{name}: structures"), &mut command)
}

/// What a program that cannot be compiled with CUDA 12.9's headers contains. CUDA's C++ libraries, which cooperative groups
/// include, refuse headers of another version than the compiler's.
const NOT_FOR_12_9: &[&str] = &["<cooperative_groups.h>", "CUDA 13's headers only"];

/// The same for Debian's nvcc, of CUDA 12.4.
const NOT_FOR_12_4: &[&str] = &["CUDA 12.5 or newer", "CUDA 13's headers only"];

/// Compiles the programs, each way, once with the headers of CUDA 12.9, and once by nvcc 12.4; gives a name for each and
/// its file.
fn compile(toolkit: &nvcc::Toolkit, stage: &Path) -> Result<Vec<(String, PathBuf)>> {
    let step = progress::step("programs of the CUDA runtime");
    let headers = toolkit.with_headers_of_12()?;
    let whole = nvcc::Toolkit::of_12()?;
    let older = [
        ("12.9", &headers, NOT_FOR_12_9),
        ("nvcc-12.4", &whole, NOT_FOR_12_4),
    ];
    let sources = sources()?;
    let mut tasks = Vec::new();
    for source in &sources {
        for (way, options) in LAUNCHES {
            tasks.push((source, way, toolkit, options, stage.join("lib")));
        }
        let text = std::fs::read_to_string(source)?;
        for (way, toolkit, not) in older {
            if !not.iter().any(|mark| text.contains(mark)) {
                let library = toolkit.root.join("lib");
                tasks.push((source, way, toolkit, LAUNCHES[0].1, library));
            }
        }
    }
    let architecture = format!("-arch={}", nvcc::ARCHITECTURE);
    let made = Mutex::new(Vec::new());
    programs::parallel(&tasks, |(source, way, toolkit, options, library)| {
        let library = library.display().to_string();
        let mut words = vec![architecture.as_str(), "-L", &library];
        words.extend(*options);
        let program = toolkit.program(source, &words)?;
        let stem = source.file_stem().context("a source without a name")?;
        let mut name = format!("cudart-{}", stem.to_string_lossy());
        if !way.is_empty() {
            name = format!("{name}-{way}");
        }
        if let Ok(mut made) = made.lock() {
            made.push((name, program));
        }
        Ok(())
    })?;
    let mut programs = made.into_inner().unwrap_or_default();
    programs.sort();
    ensure!(programs.len() == tasks.len(), "a program is missing");
    step.done(&programs.len().to_string());
    Ok(programs)
}

fn sources() -> Result<Vec<PathBuf>> {
    let folder = workspace::root().join(cudart::PROGRAMS);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cu") && !path.ends_with(BY_VERSION_KERNELS) {
            found.push(path);
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} holds no program", folder.display());
    Ok(found)
}

/// Where these programs go: they need this machine's glibc, and so do not belong to what guests get.
pub(super) fn programs_folder(stage: &Path) -> Result<PathBuf> {
    let folder = stage.join("programs");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Compiles the programs of `BY_VERSION`.
struct ByVersion<'a> {
    toolkit: &'a nvcc::Toolkit,
    stage: &'a Path,
    kernels: PathBuf,
}

impl<'a> ByVersion<'a> {
    /// Compiles the kernels.
    fn new(toolkit: &'a nvcc::Toolkit, stage: &'a Path) -> Result<Self> {
        let kernels = programs_folder(stage)?.join("cudart-kernels.o");
        let mut nvcc = Command::new(toolkit.root.join("bin/nvcc"));
        nvcc.arg(format!("-arch={}", nvcc::ARCHITECTURE))
            .args(["-c", "-allow-unsupported-compiler"])
            .args(LAUNCHES[1].1)
            .arg("-o")
            .arg(&kernels)
            .arg(
                workspace::root()
                    .join(cudart::PROGRAMS)
                    .join(BY_VERSION_KERNELS),
            );
        run::ok(&mut nvcc)?;
        Ok(Self {
            toolkit,
            stage,
            kernels,
        })
    }

    /// Each program for one version: its headers and our library of that name.
    fn programs(
        &self,
        version: &str,
        include: &Path,
        soname: &str,
    ) -> Result<Vec<(String, PathBuf)>> {
        let folder = workspace::root().join(cudart::PROGRAMS);
        let mut made = Vec::new();
        for (part, source, options) in BY_VERSION {
            let name = format!("cudart-{part}-{version}");
            let program = programs_folder(self.stage)?.join(&name);
            let mut compile = Command::new("cc");
            compile
                .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"])
                // Programs call what is deprecated.
                .arg("-Wno-deprecated-declarations")
                .args(options)
                .arg("-isystem")
                .arg(include)
                .arg("-isystem")
                // The compiler's own part of the headers is not in the runtime's packages.
                .arg(self.toolkit.root.join("include"))
                .arg("-o")
                .arg(&program)
                .arg(folder.join(source))
                .arg(&self.kernels)
                .arg(self.stage.join("lib").join(soname))
                .arg("-lstdc++");
            run::ok(&mut compile)?;
            made.push((name, program));
        }
        Ok(made)
    }
}

/// Runs a program that prints `PASS …` and `FAIL …`.
pub fn one(name: &str, part: &str, program: &Path, served: &Served) -> Result<Tally> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "300"])
        .arg(program)
        .envs(served.environment());
    let mut step = progress::step(&format!("{name}: {part}"));
    let log = format!("test-{name}-{part}");
    let result = step.run(&mut command, &log);
    let text = std::fs::read_to_string(progress::log_file(&log)?)?;
    let mut counted = tally::of_program(part, &text);
    match result {
        Ok(()) => step.done(&counted.to_string()),
        Err(error) if counted.failures.is_empty() => {
            println!("{error:#}");
            counted.add(Tally::failed(format!("{part}: {}", first_line(&error))));
        }
        Err(_) => {}
    }
    Ok(counted)
}
