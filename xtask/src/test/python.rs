//! Programs in Python that use CUDA: packages of others, unchanged, from the Python package index.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Tally, first_line, tally};
use crate::device::Device;
use crate::interrupt::Directory;
use crate::local::Served;
use crate::{abi, apt, counters, nvcc, progress, run, wheels, workspace};

/// Where the scripts are.
const FOLDER: &str = "tests/programs/python";
/// It needs nothing but the driver API, and writes its own PTX.
const TINYGRAD: &str = "tinygrad==0.14.0";
/// Numba's CUDA target compiles with NVIDIA's libnvvm, and has the driver link what it made.
const NUMBA: &[&str] = &[
    "numba==0.68.1",
    "llvmlite==0.50.0",
    "numpy==2.4.6",
    "numba-cuda==0.30.4",
    "cuda-bindings==13.5.0",
    "cuda-core==1.2.2",
    "cuda-pathfinder==1.9.1",
    "packaging==26.4",
    "nvidia-cuda-nvrtc==13.0.88",
];
/// The last CuPy whose wheels load the CUDA runtime as a shared library; NVRTC makes PTX of its kernels.
const CUPY: &[&str] = &[
    "cupy-cuda12x==12.3.0",
    "numpy==1.26.4",
    "fastrlock==0.8.3",
    "nvidia-cuda-nvrtc-cu12==12.1.105",
];
/// Libraries that CuPy is linked with and the checks do not call: half a gigabyte of packages.
const STAND_INS: [&str; 4] = [
    "libcufft.so.11",
    "libcurand.so.10",
    "libcusolver.so.11",
    "libcusparse.so.12",
];
/// How far two losses may be apart, as a part of the larger: sums are rounded in another order.
const TOLERANCE: f64 = 2e-3;
/// Losses below this are as good as none.
const SMALL: f64 = 1e-3;

/// Runs all of it.
pub fn stage(name: &str) -> Result<Tally> {
    let mut tally = Tally::default();
    let step = progress::step(&format!("{name}: tinygrad trains a network"));
    match tinygrad() {
        Ok(Some(note)) => {
            step.done(&note);
            tally.add(Tally::passed(1));
        }
        Ok(None) => tally.skip("tinygrad: cuMemHostAlloc is not supported".to_owned()),
        Err(error) => {
            println!("{error:#}");
            tally.add(Tally::failed(format!("tinygrad: {}", first_line(&error))));
        }
    }
    tally.add(numba(name)?);
    match wheels::tree("cupy-12.3.0", "CuPy", CUPY, stand_ins) {
        Ok(tree) => tally.add(cupy(name, &tree)?),
        Err(error) => tally.skip(format!(
            "CuPy cannot be installed here: {}",
            first_line(&error)
        )),
    }
    Ok(tally)
}

fn numba(name: &str) -> Result<Tally> {
    let toolkit = nvcc::Toolkit::fetch()?;
    let tree = wheels::tree("numba-0.68.1", "Numba", NUMBA, |_| Ok(()))?;
    let libraries = [tree.join("nvidia/cu13/lib"), toolkit.root.join("lib")];
    let environment = [
        ("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", "0".into()),
        ("NUMBA_CUDA_WARN_ON_IMPLICIT_COPY", "0".into()),
        ("CUDA_HOME", toolkit.root.clone().into()),
    ];
    let what = format!("{name}: Numba compiles kernels");
    checks(&what, "numba", &tree, &libraries, &environment)
}

fn cupy(name: &str, tree: &Path) -> Result<Tally> {
    let libraries = [
        tree.join("nvidia/cuda_nvrtc/lib"),
        tree.join(STAND_INS_FOLDER),
    ];
    // Compiled kernels of another run are not to stand for this one's.
    let cache = Directory::new("vgpu-cupy")?;
    let environment = [
        ("CUPY_COMPILE_WITH_PTX", "1".into()),
        ("CUPY_CACHE_DIR", cache.path().into()),
    ];
    let what = format!("{name}: CuPy computes with arrays");
    checks(&what, "cupy", tree, &libraries, &environment)
}

/// Where the stand-ins are in CuPy's tree.
const STAND_INS_FOLDER: &str = "stand-ins";

/// Makes libraries with the names that CuPy asks of each of `STAND_INS`: every function gives 1, which is an error in all of them.
fn stand_ins(tree: &Path) -> Result<()> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![tree.join("cupy"), tree.join("cupy_backends")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "so") {
                for symbol in abi::of_file(&path)?.into_iter().filter(|s| !s.defined) {
                    if let Some(library) = symbol.version {
                        names.entry(library).or_default().insert(symbol.name);
                    }
                }
            }
        }
    }
    let folder = tree.join(STAND_INS_FOLDER);
    std::fs::create_dir_all(&folder)?;
    for library in STAND_INS {
        let names = names.get(library).with_context(|| library.to_owned())?;
        let mut source = String::new();
        for name in names {
            writeln!(source, "int {name}(void) {{ return 1; }}")?;
        }
        let (file, script) = (folder.join("source.c"), folder.join("script.map"));
        std::fs::write(&file, source)?;
        // Programs ask for the names under the library's node.
        std::fs::write(&script, format!("{library} {{ global: *; }};\n"))?;
        let mut compile = Command::new("cc");
        compile
            .args(["-shared", "-fPIC", "-O1"])
            .arg(format!("-Wl,-soname,{library}"))
            .arg(format!("-Wl,--version-script={}", script.display()))
            .arg("-o")
            .arg(folder.join(library))
            .arg(&file);
        run::ok(&mut compile)?;
    }
    Ok(())
}

/// Each check of `PART_check.py` is a test.
fn checks(
    what: &str,
    part: &str,
    tree: &Path,
    libraries: &[PathBuf],
    environment: &[(&str, OsString)],
) -> Result<Tally> {
    let script = workspace::root()
        .join(FOLDER)
        .join(format!("{part}_check.py"));
    // As an installed package, so that Python reads what it has for its start.
    let start = format!(
        "import runpy, site; site.addsitedir({:?}); runpy.run_path({:?}, run_name='__main__')",
        tree.display().to_string(),
        script.display().to_string()
    );
    let served = Served::start(&Device::default())?;
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "300", "python3", "-c", &start])
        .envs(served.environment())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let [(variable, ours), _] = served.environment();
    let mut folders: Vec<_> = std::env::split_paths(&ours).collect();
    folders.extend_from_slice(libraries);
    command.env(variable, std::env::join_paths(folders)?);
    let mut step = progress::step(what);
    let log = format!("test-python-{part}");
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

/// Exits with 1 where the driver has no pinned memory, through which tinygrad copies.
const NO_PINNED_MEMORY: &str = "import ctypes, sys
cuda = ctypes.CDLL('libcuda.so.1')
cuda.cuInit(0)
at = ctypes.c_void_p()
cuda.cuCtxCreate_v2(ctypes.byref(at), 0, 0)
sys.exit(cuda.cuMemHostAlloc(ctypes.byref(at), ctypes.c_size_t(4096), 0) == 801)";

/// The same training on the processor, by tinygrad's own compiler, and on the device. `None`: it cannot run there.
fn tinygrad() -> Result<Option<String>> {
    // tinygrad's device CPU compiles with it.
    if run::ok(Command::new("clang").arg("--version")).is_err() {
        apt::ensure(&["clang"])?;
    }
    let version = TINYGRAD.split("==").nth(1).context("no version")?;
    let tree = wheels::tree(
        &format!("tinygrad-{version}"),
        "tinygrad",
        &[TINYGRAD],
        |_| Ok(()),
    )?;
    let folder = Directory::new("vgpu-python")?;
    let counted = folder.path().join("counters");
    let device = Device {
        counters: Some(counted.clone()),
        ..Device::default()
    };
    let served = Served::start(&device)?;
    let mut probe = Command::new("python3");
    probe.args(["-c", NO_PINNED_MEMORY]);
    if !probe.envs(served.environment()).status()?.success() {
        return Ok(None);
    }
    let on_processor = trained(&tree, folder.path(), "CPU", &[])?;
    let on_device = trained(&tree, folder.path(), "CUDA:PTX", &served.environment())?;
    drop(served);
    let (first, last) = (on_device.losses.get(&0), on_device.losses.last_key_value());
    let (first, last) = first
        .zip(last.map(|(_, loss)| loss))
        .context("no loss was printed")?;
    ensure!(
        *last < first / 4.0,
        "the loss did not fall: from {first} to {last}"
    );
    ensure!(
        on_device.losses.len() == on_processor.losses.len(),
        "{} steps on the device, {} on the processor",
        on_device.losses.len(),
        on_processor.losses.len()
    );
    for (step, loss) in &on_device.losses {
        let other = on_processor.losses.get(step).context("a step is missing")?;
        ensure!(
            (loss - other).abs() <= TOLERANCE * loss.max(*other) + SMALL,
            "step {step}: the loss is {loss} on the device and {other} on the processor"
        );
    }
    ensure!(
        on_device.right == on_processor.right,
        "right are {} on the device, {} on the processor",
        on_device.right,
        on_processor.right
    );
    let launches = counters::total(&counted, "cuLaunchKernel")?;
    ensure!(
        launches > on_device.losses.len() as u64,
        "the device counted {launches} launches"
    );
    Ok(Some(format!(
        "loss {first:.4} to {last:.4} in {} steps, {launches} launches",
        on_device.losses.len()
    )))
}

/// What a training printed.
struct Trained {
    losses: BTreeMap<u32, f64>,
    right: String,
}

fn trained(
    tree: &Path,
    folder: &Path,
    device: &str,
    environment: &[(&'static str, std::ffi::OsString)],
) -> Result<Trained> {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "300", "python3"])
        .arg(workspace::root().join(FOLDER).join("tinygrad_train.py"))
        .env("PYTHONPATH", tree)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // Compiled kernels of another run are not to stand for this one's.
        .env("CACHEDB", folder.join("cache.db"))
        .env("DEV", device)
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let text = run::stdout(&mut command).with_context(|| format!("DEV={device}"))?;
    let mut losses = BTreeMap::new();
    let mut right = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["loss", step, loss] => {
                losses.insert(step.parse()?, loss.parse()?);
            }
            ["right", count, ..] => right = Some(count.to_owned()),
            _ => {}
        }
    }
    let right = right.with_context(|| format!("DEV={device} did not end: {text}"))?;
    Ok(Trained { losses, right })
}
