//! Launches kernels in several sizes and compares every element with the CPU.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::cuda::{self, Arguments, Buffer, Context, Module, Shape};
use vgpu_test_programs::suite::{self, CASES};

const HELP: &str = "\
Usage: cuda-kernels [options] PTX-DIRECTORY

  --only NAME       run one kernel; may be repeated (--list shows the names)
  --threads N       run all in N threads, each with a context of its own
  --processes N     run all in N processes at once
  --repeat N        run all N times
  --count-calls     print how often each function of the driver was called
  --hang            take most of the device's memory, launch a kernel without an end, and wait to be killed
  --device          print the name of the device, and run nothing
  --list            print the names of the kernels";

struct Options {
    directory: PathBuf,
    only: Vec<String>,
    threads: usize,
    processes: usize,
    repeat: usize,
    count_calls: bool,
    hang: bool,
}

/// `None`: the list was printed and there is nothing to run.
fn options() -> Result<Option<Options>> {
    let mut options = Options {
        directory: PathBuf::new(),
        only: Vec::new(),
        threads: 0,
        processes: 0,
        repeat: 1,
        count_calls: false,
        hang: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} wants a value\n{HELP}"))
        };
        let number = |text: String| match text.parse() {
            Ok(n @ 1..=1024) => Ok(n),
            _ => bail!("{word} {text}: not a number from 1 to 1024"),
        };
        match word.as_str() {
            "--only" => options.only.push(value()?),
            "--threads" => options.threads = number(value()?)?,
            "--processes" => options.processes = number(value()?)?,
            "--repeat" => options.repeat = number(value()?)?,
            "--count-calls" => options.count_calls = true,
            "--hang" => options.hang = true,
            "--device" => {
                cuda::init()?;
                println!("device: {}", cuda::device_name()?);
                return Ok(None);
            }
            "--list" => {
                CASES.iter().for_each(|case| println!("{}", case.name));
                return Ok(None);
            }
            "--help" => {
                println!("{HELP}");
                return Ok(None);
            }
            other if other.starts_with('-') => bail!("unknown option {other}\n{HELP}"),
            other => options.directory = other.into(),
        }
    }
    if options.directory.as_os_str().is_empty() {
        bail!("no PTX directory\n{HELP}");
    }
    for name in &options.only {
        if !CASES.iter().any(|case| case.name == name) {
            bail!("--only {name}: no such kernel (--list shows the names)");
        }
    }
    Ok(Some(options))
}

/// Runs the kernels in this thread; gives how many passed and how many did not.
fn run_all(options: &Options, label: &str) -> (usize, usize) {
    let (mut passed, mut failed) = (0, 0);
    for case in CASES
        .iter()
        .filter(|case| options.only.is_empty() || options.only.iter().any(|name| name == case.name))
    {
        let start = Instant::now();
        match suite::run(case, &options.directory) {
            Ok(text) => {
                println!(
                    "PASS {label}{} {text} ({} ms)",
                    case.name,
                    start.elapsed().as_millis()
                );
                passed += 1;
            }
            Err(error) => {
                println!("FAIL {label}{}: {error:#}", case.name);
                failed += 1;
            }
        }
    }
    (passed, failed)
}

fn run_threads(options: &Options) -> Result<(usize, usize)> {
    let one = |own: bool, label: String| -> Result<(usize, usize)> {
        let context = if own {
            Context::create()?
        } else {
            Context::primary()?
        };
        let (mut passed, mut failed) = (0, 0);
        for _ in 0..options.repeat {
            let (p, f) = run_all(options, &label);
            passed += p;
            failed += f;
        }
        context.synchronize()?;
        Ok((passed, failed))
    };
    if options.threads == 0 {
        return one(false, String::new());
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads)
            .map(|i| scope.spawn(move || one(true, format!("[thread {i}] "))))
            .collect();
        let mut sum = (0, 0);
        for thread in threads {
            let Ok(result) = thread.join() else {
                bail!("a thread panicked")
            };
            let (passed, failed) = result?;
            sum = (sum.0 + passed, sum.1 + failed);
        }
        Ok(sum)
    })
}

/// Starts this program several times, and adds up what the others report.
fn run_processes(options: &Options) -> Result<(usize, usize, BTreeMap<String, u64>)> {
    let program = std::env::current_exe()?;
    let mut children = Vec::new();
    for _ in 0..options.processes {
        let mut command = Command::new(&program);
        command.arg(&options.directory).args([
            "--count-calls",
            "--repeat",
            &options.repeat.to_string(),
        ]);
        options.only.iter().for_each(|name| {
            command.args(["--only", name]);
        });
        if options.threads > 0 {
            command.args(["--threads", &options.threads.to_string()]);
        }
        children.push(
            command
                .stdout(Stdio::piped())
                .spawn()
                .context("start another process")?,
        );
    }
    let (mut passed, mut failed, mut calls) = (0, 0, BTreeMap::new());
    for (i, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["PASS", ..] => passed += 1,
                ["FAIL", ..] => failed += 1,
                ["calls:", ..] => {
                    for word in line.split_whitespace().skip(1) {
                        let (name, count) =
                            word.split_once('=').context("calls without a count")?;
                        *calls.entry(name.to_owned()).or_default() += count.parse::<u64>()?;
                    }
                }
                _ => continue,
            }
            if !line.starts_with("calls:") {
                println!("[process {i}] {line}");
            }
        }
        if !output.status.success() {
            println!("[process {i}] {}", output.status);
            failed += 1;
        }
    }
    Ok((passed, failed, calls))
}

/// Never ends by itself.
fn hang(options: &Options) -> Result<ExitCode> {
    cuda::init()?;
    let context = Context::primary()?;
    let path = options.directory.join("misc.ptx");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let module = Module::load(&text)?;
    let (free, _) = cuda::memory()?;
    let most = Buffer::<u8>::new(free / 4 * 3)?;
    let stop = Buffer::<i32>::zeros(1)?;
    module.function("spin")?.launch(
        Shape::grid(1, 32),
        None,
        &Arguments::new().with(stop.address()),
    )?;
    println!("hangs with {} of {free} bytes", free / 4 * 3);
    context.synchronize()?;
    drop(most);
    bail!("the kernel ended")
}

/// Lines `calls: NAME=COUNT …` of readable length.
fn print_calls(calls: &BTreeMap<String, u64>) {
    let mut line = String::from("calls:");
    for (name, count) in calls {
        let word = format!(" {name}={count}");
        if line.len() + word.len() > 96 {
            println!("{line}");
            line = String::from("calls:");
        }
        line.push_str(&word);
    }
    println!("{line}");
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.hang {
        return hang(options);
    }
    let (passed, failed, calls) = if options.processes > 0 {
        run_processes(options)?
    } else {
        cuda::init()?;
        println!("device: {}", cuda::device_name()?);
        let (passed, failed) = run_threads(options)?;
        (
            passed,
            failed,
            cuda::counts()
                .into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
        )
    };
    if options.count_calls {
        print_calls(&calls);
    }
    if failed > 0 || passed == 0 {
        println!("{failed} of {} kernels failed", passed + failed);
        return Ok(ExitCode::FAILURE);
    }
    println!("all {passed} kernels passed");
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    let result = options()
        .and_then(|options| options.map_or(Ok(ExitCode::SUCCESS), |options| run(&options)));
    result.unwrap_or_else(|error| {
        eprintln!("cuda-kernels: {error:#}");
        ExitCode::from(2)
    })
}
