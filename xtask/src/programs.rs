//! `cargo xtask programs`: CUDA programs of our own that check themselves, compiled by NVIDIA's nvcc in several ways
//! and run on the device without QEMU.
//!
//! A program is compiled twice, optimised and with `-G` at `-O0`. Each of the two holds PTX for three
//! architectures, of which the runtime takes the newest that the device can run. So that every one of them runs, a program
//! is run as copies in which all but one are marked as too new.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::device::Device;
use crate::local::Served;
use crate::{interrupt, nvcc, progress, run, shims, workspace};

/// Where the programs are.
const FOLDER: &str = "tests/programs/cu";
/// The architectures whose PTX each holds.
const ARCHITECTURES: [u32; 3] = [75, 80, 90];
/// Names and options of the two ways to compile.
const BUILDS: [(&str, &[&str]); 2] = [("O3", &["-O3"]), ("G", &["-O0", "-G"])];
/// What a program exits with that could not check anything (`tests/programs/cu/check.h`).
const SKIPPED: i32 = 77;
/// A program that takes longer hangs.
const LIMIT_SECONDS: &str = "120";

/// Compiles CUDA programs with nvcc and runs them on the device, without QEMU
///
/// Each program checks what the device computes against the processor. It is compiled with -O3 and with -O0 -G, for
/// compute_75, compute_80 and compute_90, and runs once in each of these six forms.
#[derive(Args)]
pub struct Programs {
    #[command(flatten)]
    device: Device,

    /// Only these programs, without `.cu`; all without a name
    names: Vec<String>,
}

/// How one form of a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that it checked was right.
    Passed,
    /// It could check nothing, and why.
    Skipped(String),
    /// It did not, and why.
    Failed(String),
}

/// By program and form (`O3 compute_75`).
pub type Outcomes = BTreeMap<String, BTreeMap<String, Outcome>>;

impl Programs {
    /// Runs them and prints a table.
    pub fn run(self) -> Result<ExitCode> {
        let outcomes = all(&self.device, &self.names)?;
        print!("{}", table(&outcomes));
        let failed = outcomes
            .values()
            .flat_map(BTreeMap::values)
            .any(|outcome| matches!(outcome, Outcome::Failed(_)));
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Compiles and runs the named programs, or all.
pub fn all(device: &Device, names: &[String]) -> Result<Outcomes> {
    let sources = sources(names)?;
    let compiled = compile(&sources)?;
    let served = Served::start(device)?;
    let folder = tempfolder()?;
    let step = progress::step("programs of nvcc run");
    let mut tasks = Vec::new();
    for (name, build, program) in &compiled {
        for architecture in ARCHITECTURES {
            tasks.push((
                name,
                format!("{build} compute_{architecture}"),
                architecture,
                program,
            ));
        }
    }
    let outcomes = Mutex::new(Outcomes::new());
    parallel(&tasks, |(name, form, architecture, program)| {
        let outcome = match program {
            Err(error) => Outcome::Failed(error.clone()),
            Ok(program) => {
                let only = folder.join(format!("{name}-{}", form.replace(' ', "-")));
                one(&served, program, *architecture, &only)
                    .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
            }
        };
        if let Ok(mut outcomes) = outcomes.lock() {
            outcomes
                .entry((*name).clone())
                .or_default()
                .insert(form.clone(), outcome);
        }
        Ok(())
    })?;
    fs::remove_dir_all(&folder)?;
    step.done(&format!("{} times", tasks.len()));
    outcomes
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))
}

/// One row for each program, one column for each form.
pub fn table(outcomes: &Outcomes) -> String {
    let mut text = String::from("| program |");
    let forms: Vec<String> = BUILDS
        .iter()
        .flat_map(|(build, _)| ARCHITECTURES.map(|a| format!("{build} compute_{a}")))
        .collect();
    for form in &forms {
        text.push_str(&format!(" {form} |"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(forms.len()));
    text.push('\n');
    let mut reasons = BTreeMap::new();
    for (name, by_form) in outcomes {
        text.push_str(&format!("| {name} |"));
        for form in &forms {
            text.push_str(match by_form.get(form) {
                Some(Outcome::Passed) => " passed |",
                Some(Outcome::Skipped(reason)) => {
                    reasons.insert(format!("{name}: skipped: {reason}"), ());
                    " skipped |"
                }
                Some(Outcome::Failed(reason)) => {
                    reasons.insert(format!("{name} ({form}): {reason}"), ());
                    " FAILED |"
                }
                None => " – |",
            });
        }
        text.push('\n');
    }
    for reason in reasons.keys() {
        text.push_str(reason);
        text.push('\n');
    }
    text
}

/// The programs' sources, by name.
fn sources(names: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let folder = workspace::root().join(FOLDER);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cu")
            && let Some(stem) = path.file_stem()
        {
            found.insert(stem.to_string_lossy().into_owned(), path);
        }
    }
    for name in names {
        ensure!(
            found.contains_key(name),
            "there is no program {name}; there are: {}",
            found.keys().cloned().collect::<Vec<_>>().join(", ")
        );
    }
    found.retain(|name, _| names.is_empty() || names.contains(name));
    Ok(found.into_iter().collect())
}

type Compiled = Vec<(String, &'static str, Result<PathBuf, String>)>;

/// Compiles what the cache has not got. A program that does not compile is a result, not the end.
fn compile(sources: &[(String, PathBuf)]) -> Result<Compiled> {
    let toolkit = nvcc::Toolkit::fetch()?;
    let stage = shims::stage()?;
    let step = progress::step("programs of nvcc are compiled");
    let tasks: Vec<_> = sources
        .iter()
        .flat_map(|source| BUILDS.map(|build| (source, build)))
        .collect();
    let results = Mutex::new(Compiled::new());
    let architectures =
        ARCHITECTURES.map(|a| format!("-gencode=arch=compute_{a},code=compute_{a}"));
    let library = stage.join("lib").display().to_string();
    parallel(&tasks, |((name, source), (build, options))| {
        let mut words: Vec<&str> = options.to_vec();
        words.extend(architectures.iter().map(String::as_str));
        words.extend(["-L", &library]);
        let program = toolkit.program(source, &words);
        if let Ok(mut results) = results.lock() {
            let program = program.map_err(|error| format!("{error:#}"));
            results.push((name.clone(), build, program));
        }
        Ok(())
    })?;
    step.done(&tasks.len().to_string());
    results
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a thread panicked"))
}

/// Runs one form of a program as the file `only`.
fn one(served: &Served, program: &Path, architecture: u32, only: &Path) -> Result<Outcome> {
    let mut bytes = fs::read(program)?;
    keep_one(&mut bytes, architecture)?;
    fs::write(only, bytes)?;
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(only, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", LIMIT_SECONDS])
        .arg(only)
        .envs(served.environment());
    let output = command
        .output()
        .with_context(|| format!("run {}", run::shown(&command)))?;
    fs::remove_file(only)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |word: &str| {
        text.lines().find_map(|line| {
            let rest = line.strip_prefix(word)?;
            Some(
                rest.split_once(": ")
                    .map_or(rest, |(_, why)| why)
                    .to_owned(),
            )
        })
    };
    Ok(match output.status.code() {
        Some(0) if line("PASS ").is_some() => Outcome::Passed,
        Some(SKIPPED) => Outcome::Skipped(line("SKIP ").unwrap_or_default()),
        _ => Outcome::Failed(line("FAIL ").unwrap_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{}; {}{}", output.status, text.trim(), said.trim())
        })),
    })
}

/// Marks the PTX of all other architectures in the program's fat binaries as made for a device that is too new.
fn keep_one(bytes: &mut [u8], architecture: u32) -> Result<()> {
    /// First word of a fat binary, and what an entry of PTX begins with.
    const MAGIC: u32 = 0xba55_ed50;
    const PTX: u16 = 1;
    /// No device has this compute capability.
    const TOO_NEW: u32 = 999;
    let u32_at = |bytes: &[u8], at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(word))
    };
    let mut at = 0;
    let (mut kept, mut marked) = (0, 0);
    while at + 16 <= bytes.len() {
        if u32_at(bytes, at) != Some(MAGIC) {
            at += 8;
            continue;
        }
        let header = (u32_at(bytes, at + 4).unwrap_or_default() >> 16) as usize;
        let size = u32_at(bytes, at + 8).unwrap_or_default() as usize;
        let end = at + header + size;
        let mut entry = at + header;
        while entry + 64 <= end.min(bytes.len()) {
            let kind = u32_at(bytes, entry).unwrap_or_default() as u16;
            let header = u32_at(bytes, entry + 4).unwrap_or_default() as usize;
            let payload = u32_at(bytes, entry + 8).unwrap_or_default() as usize;
            ensure!(kind == PTX && header >= 32, "an image that is not PTX");
            if u32_at(bytes, entry + 28) == Some(architecture) {
                kept += 1;
            } else if let Some(field) = bytes.get_mut(entry + 28..entry + 32) {
                field.copy_from_slice(&TOO_NEW.to_le_bytes());
                marked += 1;
            }
            entry += header + payload;
        }
        at = end.next_multiple_of(8);
    }
    let others = ARCHITECTURES.len() - 1;
    ensure!(
        kept > 0 && marked == kept * others,
        "the program has {kept} images for compute_{architecture} and {marked} for others"
    );
    Ok(())
}

/// Does the tasks on all processors; the first error ends it.
pub fn parallel<T: Sync>(tasks: &[T], body: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if interrupt::happened() {
                            bail!("interrupted");
                        }
                        body(task)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })
}

/// For the copies that run; removed at the end.
fn tempfolder() -> Result<PathBuf> {
    let folder = workspace::target()?.join(format!("programs-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sm: u32) -> Vec<u8> {
        let mut bytes = vec![0; 72];
        bytes[0] = 1;
        bytes[4..8].copy_from_slice(&64u32.to_le_bytes());
        bytes[8..12].copy_from_slice(&8u32.to_le_bytes());
        bytes[28..32].copy_from_slice(&sm.to_le_bytes());
        bytes
    }

    #[test]
    fn one_architecture_is_kept() {
        let mut file = vec![0; 8];
        file.extend(0xba55_ed50_u32.to_le_bytes());
        file.extend((16u32 << 16 | 1).to_le_bytes());
        file.extend((3 * 72u64).to_le_bytes());
        for sm in ARCHITECTURES {
            file.extend(entry(sm));
        }
        keep_one(&mut file, 80).unwrap();
        let sm = |k: usize| file[24 + 72 * k + 28];
        assert_eq!(
            [sm(0), sm(1), sm(2)],
            [999u32.to_le_bytes()[0], 80, 999u32.to_le_bytes()[0]]
        );
        // Nothing is left for another one.
        assert!(keep_one(&mut file, 90).is_err());
    }

    #[test]
    fn table_tells_why() {
        let mut outcomes = Outcomes::new();
        let by_form = outcomes.entry("scan".to_owned()).or_default();
        by_form.insert("O3 compute_75".to_owned(), Outcome::Passed);
        by_form.insert("G compute_90".to_owned(), Outcome::Failed("sum".to_owned()));
        let text = table(&outcomes);
        assert!(text.contains("| scan | passed | – |"), "{text}");
        assert!(text.contains("scan (G compute_90): sum"), "{text}");
    }
}
