//! What programs link and look up is there, and what is not supported says so: our libraries beside NVIDIA's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cudart::{REAL, one as program_of};
use super::{BUILD_LIMIT, Tally, cargo, libtest};
use crate::device::Device;
use crate::local::Served;
use crate::{abi, coverage, cudart, nvcc, nvml, progress, run, shims, wheels, workspace};

mod calls;
mod documented;
mod headers;
mod linked;

/// NVIDIA's cuBLAS in Python packages: of CUDA 11.8, 12.4, 12.9 and 13.0, and the newest of each name.
const CUBLAS: &[(&str, u32)] = &[
    ("nvidia-cublas-cu11==11.11.3.6", 11),
    ("nvidia-cublas-cu12==12.4.5.8", 12),
    ("nvidia-cublas-cu12==12.9.1.4", 12),
    ("nvidia-cublas-cu12", 12),
    ("nvidia-cublas==13.0.0.19", 13),
    ("nvidia-cublas", 13),
];

/// Runs all of it.
pub fn stage(name: &str) -> Result<Tally> {
    let stage = shims::stage()?;
    let lib = stage.join("lib");
    let mut sum = Tally::default();
    let mut one = |what: &str, result: Result<()>| {
        sum.add(match result {
            Ok(()) => Tally::passed(1),
            Err(error) => Tally::failed(format!("{name}: {what}: {error:#}")),
        });
    };
    for (list, of) in abi::imports()? {
        one(&format!("what {list} imports"), imported(&lib, &of));
    }
    for (package, major) in CUBLAS {
        let symbols = abi::symbols(package, &["libcublas.so*", "libcublasLt.so*"], false);
        for family in ["libcublas", "libcublasLt"] {
            let soname = format!("{family}.so.{major}");
            let what = format!("{soname} has the names of {package}");
            let symbols = symbols.as_deref().map_err(|e| anyhow::anyhow!("{e:#}"));
            match symbols {
                Ok(symbols) if lib.join(&soname).is_file() => {
                    one(&what, exported(symbols, &lib, &soname));
                }
                Ok(_) => println!("{soname} is not there yet: its names are not compared"),
                Err(error) => one(&what, Err(error)),
            }
        }
    }
    let mut include = Vec::new();
    for (package, inside, _) in REAL {
        let version = package.split("==").nth(1).context("no version")?;
        let tree = wheels::tree(&format!("cudart-{version}"), package, &[*package], |_| {
            Ok(())
        })?;
        let folder = tree.join(inside).join("include");
        one(
            &format!("the names of cuda.h of {version}"),
            headers::names(&folder),
        );
        one(
            &format!("the versions of cudaTypedefs.h of {version}"),
            headers::versions(&folder),
        );
        include.push(folder);
    }
    // One that cannot be made leaves the others to be seen.
    let whole = |result: Result<Tally>| {
        result.unwrap_or_else(|error| Tally::failed(format!("{name}: {error:#}")))
    };
    sum.add(whole(structures(name, &include)));
    let served = Served::start(&Device::default())?;
    match documented::read(&include) {
        Ok(documentation) => {
            sum.add(match documented::rows(&documentation) {
                Ok(()) => Tally::passed(1),
                Err(error) => Tally::failed(format!("{name}: rows of bad input: {error:#}")),
            });
            sum.add(whole(calls::run(name, &stage, &documentation, &served)));
        }
        Err(error) => sum.add(Tally::failed(format!("{name}: {error:#}"))),
    }
    sum.add(whole(linked::run(name, &stage, &served)));
    sum.add(whole(c_programs(name, &stage, &served)));
    Ok(sum)
}

/// Programs in C against NVIDIA's headers: source, library, and where the headers are.
fn c_programs(name: &str, stage: &Path, served: &Served) -> Result<Tally> {
    let cuda = nvcc::Toolkit::fetch()?.root.join("include");
    let nvml = nvml::headers()?;
    let nvml = nvml.last().and_then(|header| header.parent());
    let nvml = nvml.context("no header of NVML")?.to_owned();
    let mut sum = Tally::default();
    for (source, library, headers) in [
        ("nvml_errors", "libnvidia-ml.so.1", nvml.clone()),
        ("nvml_surface", "libnvidia-ml.so.1", nvml),
        ("driver_errors", "libcuda.so.1", cuda.clone()),
        ("driver_surface", "libcuda.so.1", cuda.clone()),
        ("driver_twins", "libcuda.so.1", cuda),
    ] {
        let program = super::cudart::programs_folder(stage)?.join(source.replace('_', "-"));
        let file = format!("tests/programs/c/{source}.c");
        let mut compile = Command::new("cc");
        compile
            .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1"])
            // Programs call what is deprecated.
            .args(["-pthread", "-Wno-deprecated-declarations", "-isystem"])
            .arg(headers)
            .arg(workspace::root().join(file))
            .arg(stage.join("lib").join(library))
            .arg("-o")
            .arg(&program);
        run::ok(&mut compile)?;
        sum.add(program_of(name, source, &program, served)?);
    }
    Ok(sum)
}

/// What a library of ours exports: `name`, or `name@node`.
fn ours(library: &Path) -> Result<BTreeSet<String>> {
    Ok(abi::of_file(library)?
        .into_iter()
        .filter(|symbol| symbol.defined)
        .map(|symbol| match symbol.version {
            Some(version) => format!("{}@{version}", symbol.name),
            None => symbol.name,
        })
        .collect())
}

/// Every name that a program imports is in our library, under the version node that it asks for.
fn imported(lib: &Path, of: &abi::Imports) -> Result<()> {
    let mut missing = Vec::new();
    for (soname, names) in of {
        let library = lib.join(soname);
        if !library.is_file() {
            println!(
                "{soname} is not there yet: {} names are not compared",
                names.len()
            );
            continue;
        }
        let own = ours(&library)?;
        let versioned = !["libcuda.so.1", "libnvidia-ml.so.1"].contains(&soname.as_str());
        missing.extend(
            names
                .iter()
                .map(|name| {
                    if versioned {
                        format!("{name}@{soname}")
                    } else {
                        name.clone()
                    }
                })
                .filter(|name| !own.contains(name))
                .map(|name| format!("{soname}: {name}")),
        );
    }
    ensure!(missing.is_empty(), "missing: {}", missing.join(", "));
    Ok(())
}

/// Every name that NVIDIA's library exports is in ours, under the same node.
fn exported(symbols: &[abi::Symbol], lib: &Path, soname: &str) -> Result<()> {
    let own = ours(&lib.join(soname))?;
    let real: BTreeSet<String> = symbols
        .iter()
        .filter(|symbol| symbol.defined && symbol.file.ends_with(&format!("/{soname}")))
        // The node itself is a symbol, too.
        .filter(|symbol| symbol.version.as_deref() != Some(&symbol.name))
        .map(|symbol| match &symbol.version {
            Some(version) => format!("{}@{version}", symbol.name),
            None => symbol.name.clone(),
        })
        .collect();
    ensure!(
        real.len() > 100,
        "NVIDIA's library has {} names",
        real.len()
    );
    let missing: Vec<_> = real.difference(&own).cloned().collect();
    ensure!(missing.is_empty(), "missing: {}", missing.join(", "));
    Ok(())
}

/// The driver's structures, compared with the headers by the crate's own test.
fn structures(name: &str, include: &[PathBuf]) -> Result<Tally> {
    let mut command = cargo(
        BUILD_LIMIT,
        &[
            "test",
            "--package",
            "vgpu-libcuda",
            "--lib",
            "--",
            "--ignored",
        ],
    );
    command.env("VGPU_CUDA_HEADERS", std::env::join_paths(include)?);
    libtest(&format!("{name}: structures"), &mut command)
}
