//! The supervisor: starts workers, sees that they go on, and keeps the case with which one ended.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::patience::{Hang, Look, Patience};
use crate::stats::{COUNTERS, line};
use crate::work::Shared;

/// A case that takes more processor time hangs, or one that sleeps for twice as long: all its launches have limits.
pub const HANG: Duration = Duration::from_secs(60);
/// Host memory of a worker. A block may have 1 GiB of local memory and as much for registers; AddressSanitizer
/// and its shadow come on top.
const MAX_RESIDENT_BYTES: u64 = 5 << 30;
/// Cases of one worker; then a new one starts, so that nothing piles up.
const CASES_OF_A_WORKER: u64 = 20_000;
/// Between looks at a worker.
const LOOK: Duration = Duration::from_millis(200);
/// Between lines about progress.
const REPORT: Duration = Duration::from_secs(60);

/// How long to go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// For so long.
    Time(Duration),
    /// For so many cases.
    Cases(u64),
}

/// What to do.
pub struct Run {
    /// Seed of the cases.
    pub seed: u64,
    /// Number of the first case.
    pub first: u64,
    /// When to end.
    pub until: Until,
    /// Files and folders with PTX, for the workers.
    pub corpus: Vec<PathBuf>,
    /// Where findings go.
    pub findings: PathBuf,
    /// Stop at the first finding.
    pub stop: bool,
    /// How much processor time a case may take: [`HANG`].
    pub hang: Duration,
    /// How workers are to fail at their third case, to show that it is seen: `crash`, `panic`, `sleep` or `spin`.
    pub fail: Option<String>,
}

/// How a worker ended.
enum End {
    Finished,
    /// The time is over.
    Time,
    Crashed(ExitStatus),
    Hung(Hang),
    Memory(u64),
}

/// Runs workers; gives the number of findings.
pub fn run(run: &Run) -> Result<u64> {
    let folder = &run.findings;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let start = Instant::now();
    let deadline = match run.until {
        Until::Time(t) => Some(start + t),
        Until::Cases(_) => None,
    };
    let last = match run.until {
        Until::Cases(n) => run.first.saturating_add(n),
        Until::Time(_) => u64::MAX,
    };
    let mut sum = vec![0u64; COUNTERS.len()];
    let (mut next, mut findings) = (run.first, 0);
    while next < last && deadline.is_none_or(|d| Instant::now() < d) {
        let to = next.saturating_add(CASES_OF_A_WORKER).min(last);
        let state = folder.join(format!("worker-{}", std::process::id()));
        let _ = fs::remove_file(&state);
        let shared = Shared::open(&state)?;
        let log = folder.join(format!("log-{}", std::process::id()));
        let mut child = start_worker(run, next, to, &state, &log)?;
        let end = watch(run, &mut child, &shared, deadline, start, &sum)?;
        let values = shared.values();
        sum.iter_mut().zip(&values).for_each(|(s, v)| *s += v);
        let done = values.first().copied().unwrap_or(0);
        let what = match end {
            End::Finished => None,
            End::Time => None,
            End::Crashed(status) => Some((
                "crash",
                match status.signal() {
                    Some(s) => format!("ended by signal {s}"),
                    None => status.to_string(),
                },
            )),
            End::Hung(how) => {
                let (time, what) = match how {
                    Hang::Busy(time) => (time, "of processor time"),
                    Hang::Asleep(time) => (time, "asleep"),
                };
                let why = format!("no progress in {} s {what}", time.as_secs());
                Some(("hang", why))
            }
            End::Memory(bytes) => Some(("memory", format!("{} MiB resident", bytes >> 20))),
        };
        if let Some((kind, why)) = what {
            findings += 1;
            // The worker that said nothing yet has not begun its first case.
            let number = (next + done).saturating_sub(1);
            let name = format!("{kind}-{}-{number}", run.seed);
            let file = folder.join(&name);
            match shared.case() {
                Ok(case) => fs::write(&file, case)?,
                Err(e) => eprintln!("no case: {e:#}"),
            }
            let said = fs::read(&log).unwrap_or_default();
            fs::write(folder.join(format!("{name}.log")), &said)?;
            println!(
                "FINDING {kind}: {why}; seed {} case {number}: {}",
                run.seed,
                file.display()
            );
            let text = String::from_utf8_lossy(&said);
            text.lines().take(30).for_each(|l| println!("    {l}"));
            if run.stop {
                break;
            }
        }
        let _ = fs::remove_file(&state);
        let _ = fs::remove_file(&log);
        next += done.max(1);
    }
    println!(
        "{:.0} s, seed {}, cases {}..{next}: {}; {findings} findings",
        start.elapsed().as_secs_f64(),
        run.seed,
        run.first,
        line(&sum)
    );
    Ok(findings)
}

fn start_worker(run: &Run, from: u64, to: u64, state: &Path, log: &Path) -> Result<Child> {
    let own = std::env::current_exe().context("find this program's file")?;
    let mut command = Command::new(own);
    command
        .args(["work", "--seed", &run.seed.to_string()])
        .args(["--from", &from.to_string(), "--to", &to.to_string()])
        .arg("--state")
        .arg(state)
        .args(
            run.corpus
                .iter()
                .flat_map(|c| ["--corpus".as_ref(), c.as_os_str()]),
        )
        .args(run.fail.iter().flat_map(|how| ["--fail", how]))
        .stdin(Stdio::null())
        .stderr(File::create(log)?);
    command.spawn().context("start a worker")
}

fn watch(
    run: &Run,
    child: &mut Child,
    shared: &Shared,
    deadline: Option<Instant>,
    start: Instant,
    before: &[u64],
) -> Result<End> {
    let mut patience = Patience::new(run.hang, Instant::now());
    let mut reported = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                End::Finished
            } else {
                End::Crashed(status)
            });
        }
        let values = shared.values();
        let cases = values.first().copied().unwrap_or(0);
        let hang = patience.look(cases, Look::take(child.id()));
        let end = if deadline.is_some_and(|d| Instant::now() >= d) {
            Some(End::Time)
        } else if let Some(how) = hang {
            Some(End::Hung(how))
        } else {
            Some(resident(child.id()))
                .filter(|bytes| *bytes > MAX_RESIDENT_BYTES)
                .map(End::Memory)
        };
        if let Some(end) = end {
            child.kill()?;
            child.wait()?;
            return Ok(end);
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            let sum: Vec<u64> = before.iter().zip(&values).map(|(a, b)| a + b).collect();
            println!("{:.0} s: {}", start.elapsed().as_secs_f64(), line(&sum));
        }
        thread::sleep(LOOK);
    }
}

/// Host memory that a process has in use, in bytes.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|w| w.parse().ok());
    pages.map_or(0, |n: u64| n * crate::guard::PAGE)
}
