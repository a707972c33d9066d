//! Random programs beside a reference of CUDA's ordering rules, and processes that are killed.

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::torture::processes::{self, Host, Until};

const HELP: &str = "\
Usage: cuda-torture MODE [OPTIONS]

Modes:
  threads     random programs in threads of one process
  processes   the same in several processes at once
  kill        processes killed at random points, and what they leave behind
  half        half of many processes killed at once
  idle        a process that does nothing, and how often the host wakes up for it
  hold        a context, until the end of the input

Options:
  --seed N          repeats what another run with this number did [default: 1]
  --threads N       threads of a process [default: 4]
  --processes N     processes [default: 4; half: 32]
  --seconds N       how long [default: 10]
  --operations N    how many operations of each thread, instead of a time
  --kills N         how many processes are killed [default: 200]
  --server PID      the host's process, whose threads and descriptors are counted
  --channels N      channels of the device [default: 32]
  --until-end-of-input   with threads: goes on until the input ends";

struct Words {
    seed: u64,
    threads: u64,
    processes: Option<u64>,
    until: Until,
    time: Duration,
    kills: u64,
    host: Host,
    until_input: bool,
}

fn words(mut all: impl Iterator<Item = String>) -> Result<Words> {
    let mut words = Words {
        seed: 1,
        threads: 4,
        processes: None,
        until: Until::Time(Duration::from_secs(10)),
        time: Duration::from_secs(10),
        kills: 200,
        host: Host {
            server: None,
            channels: 32,
        },
        until_input: false,
    };
    while let Some(name) = all.next() {
        if name == "--until-end-of-input" {
            words.until_input = true;
            continue;
        }
        let value = all
            .next()
            .with_context(|| format!("{name} wants a value\n{HELP}"))?;
        let wrong = || format!("{name} {value}: not a number\n{HELP}");
        let whole = || value.parse::<u64>().with_context(wrong);
        match name.as_str() {
            "--seed" => words.seed = whole()?,
            "--threads" => words.threads = whole()?,
            "--processes" => words.processes = Some(whole()?),
            "--seconds" => {
                let seconds: f64 = value.parse().with_context(wrong)?;
                words.time = Duration::try_from_secs_f64(seconds).with_context(wrong)?;
                words.until = Until::Time(words.time);
            }
            "--operations" => words.until = Until::Operations(whole()?),
            "--kills" => words.kills = whole()?,
            "--server" => words.host.server = Some(whole()? as u32),
            "--channels" => words.host.channels = whole()? as usize,
            _ => bail!("unknown option {name}\n{HELP}"),
        }
    }
    Ok(words)
}

/// Set when the input has ended.
static ENDED: AtomicBool = AtomicBool::new(false);

fn run() -> Result<()> {
    let mut all = std::env::args().skip(1);
    let mode = all.next().unwrap_or_default();
    let words = words(all)?;
    let told = match mode.as_str() {
        "threads" => {
            let until = match words.until_input {
                false => words.until,
                true => {
                    std::thread::spawn(|| {
                        let _ = std::io::stdin().read_to_end(&mut Vec::new());
                        ENDED.store(true, Ordering::Relaxed);
                    });
                    Until::Set(&ENDED)
                }
            };
            let sum = processes::threads(words.seed, words.threads, until)?;
            println!("{sum} operations, all as they must be");
            return Ok(());
        }
        "processes" => processes::processes(
            words.seed,
            words.processes.unwrap_or(4),
            words.threads,
            words.time,
        )?,
        "kill" => processes::kill(words.seed, words.kills, words.host)?,
        "half" => processes::half(words.seed, words.processes.unwrap_or(32), words.host)?,
        "idle" => processes::idle(words.time, words.host)?,
        "hold" => return processes::hold(),
        "--help" => {
            println!("{HELP}");
            return Ok(());
        }
        other => bail!("no mode {other:?}\n{HELP}"),
    };
    println!("PASS {mode}: {told}");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("FAIL cuda-torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}
