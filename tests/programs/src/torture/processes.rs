//! Many random programs at once: in threads, in processes, killed or not, and what they leave.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::device::{self, Kernels, Memory, Stream};
use super::program::Program;
use super::random::Random;
use crate::cuda::{self, Context};

/// Longer than the host needs to free what a killed process had.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a process says once its random programs run.
const RUNNING: &str = "running";

/// How long random programs go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So much time; a failure is repeated with the number of operations that it names.
    Time(Duration),
    /// So many operations of each thread.
    Operations(u64),
    /// Until this is set.
    Set(&'static AtomicBool),
}

/// Runs random programs in so many threads of this process; gives the number of operations.
///
/// # Errors
/// What was not as it must be, with the seed that repeats it.
pub fn threads(seed: u64, count: u64, until: Until) -> Result<u64> {
    cuda::init()?;
    let _context = Context::primary()?;
    println!("{RUNNING}");
    std::io::stdout().flush()?;
    let began = Instant::now();
    let one = |thread: u64| -> Result<u64> {
        let _context = Context::primary()?;
        // The first thread's is the process's, so that one alone can be repeated.
        let seed = seed.wrapping_add(thread << 32);
        let mut program = Program::new(seed)?;
        let going = |done: u64| match until {
            Until::Time(time) => began.elapsed() < time,
            Until::Operations(most) => done < most,
            Until::Set(ended) => !ended.load(Ordering::Relaxed),
        };
        while going(program.done()) {
            program
                .step()
                .with_context(|| format!("thread {thread}: `threads --seed {seed} --threads 1`"))?;
        }
        let done = program.done();
        program.finish().with_context(|| {
            format!("thread {thread}, at its end: `threads --seed {seed} --threads 1 --operations {done}`")
        })?;
        Ok(done)
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..count)
            .map(|n| {
                scope.spawn({
                    let one = &one;
                    move || one(n)
                })
            })
            .collect();
        let mut sum = 0;
        for thread in started {
            sum += match thread.join() {
                Ok(done) => done?,
                Err(_) => bail!("a thread panicked"),
            };
        }
        Ok(sum)
    })
}

/// This program with other words.
struct Spawned {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Spawned {
    fn new(words: &[&str]) -> Result<Spawned> {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("cuda-torture"));
        let mut child = Command::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        Ok(Spawned {
            child,
            output: BufReader::new(output),
        })
    }

    fn mix(seed: u64, threads: u64, words: &[&str]) -> Result<Spawned> {
        let (seed, threads) = (seed.to_string(), threads.to_string());
        Spawned::new(&[&["threads", "--seed", &seed, "--threads", &threads], words].concat())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Kills it; true where its programs had begun.
    fn kill(mut self) -> Result<bool> {
        self.child.kill()?;
        self.child.wait()?;
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        Ok(rest.contains(RUNNING))
    }

    /// Waits for its end, which must be a good one; gives the last line of its output.
    fn finish(mut self) -> Result<String> {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "a process ended with {status}: {rest}");
        Ok(rest.lines().last().unwrap_or_default().to_owned())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // It may have ended; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs random programs in several processes of several threads each.
pub fn processes(seed: u64, processes: u64, threads: u64, time: Duration) -> Result<String> {
    let seconds = time.as_secs_f64().to_string();
    let started: Result<Vec<_>> = (0..processes)
        .map(|n| Spawned::mix(seed.wrapping_add(n), threads, &["--seconds", &seconds]))
        .collect();
    let mut sum = 0u64;
    for process in started? {
        let line = process.finish()?;
        let count = line.split_whitespace().next().and_then(|n| n.parse().ok());
        sum += count.unwrap_or(0u64);
    }
    ensure!(sum > 0, "nothing was done");
    Ok(format!(
        "{sum} operations of {threads} threads in each of {processes} processes, seed {seed}"
    ))
}

/// What a process of the host has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    threads: usize,
    descriptors: usize,
    /// Free device memory, as this process sees it.
    free_bytes: usize,
}

impl Held {
    /// Looks: at the host's process where its number is known.
    fn look(server: Option<u32>) -> Result<Held> {
        let count = |what: &str| match server {
            None => Ok(0),
            Some(pid) => {
                let path = format!("/proc/{pid}/{what}");
                let entries = std::fs::read_dir(&path).with_context(|| format!("read {path}"))?;
                Ok::<_, anyhow::Error>(entries.count())
            }
        };
        Ok(Held {
            threads: count("task")?,
            descriptors: count("fd")?,
            free_bytes: cuda::memory()?.0,
        })
    }

    /// Waits until the host has again what it had.
    fn wait_for(&self, server: Option<u32>) -> Result<()> {
        let began = Instant::now();
        loop {
            let now = Held::look(server)?;
            if now == *self {
                return Ok(());
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "the host has {now:?} instead of {self:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where the host is, and how many processes may use the device.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The host's process, to look at what it has.
    pub server: Option<u32>,
    /// Channels of the device.
    pub channels: usize,
}

impl Host {
    /// All channels but this process's can be had at once, and one more cannot: none was lost.
    fn check_channels(&self) -> Result<()> {
        let mut held = Vec::new();
        for n in 1..self.channels {
            let mut one = Spawned::new(&["hold"])?;
            let line = one.line()?;
            ensure!(line == RUNNING, "channel {n} of {}: {line}", self.channels);
            held.push(one);
        }
        let mut one_more = Spawned::new(&["hold"])?;
        let line = one_more.line()?;
        ensure!(
            line.contains("CUDA_ERROR_DEVICE_UNAVAILABLE"),
            "with all {} channels taken, one more process gets {line:?}",
            self.channels
        );
        held.into_iter().try_for_each(|one| one.finish().map(drop))
    }
}

/// Kills processes at random points, while another one's results are checked.
pub fn kill(seed: u64, kills: u64, host: Host) -> Result<String> {
    cuda::init()?;
    let _context = Context::primary()?;
    device::synchronize()?;
    let before = Held::look(host.server)?;
    let bystander = Spawned::mix(seed, 2, &["--until-end-of-input"])?;
    let mut random = Random::new(seed);
    let mut running = 0;
    const AT_ONCE: u64 = 4;
    let mut left = kills;
    while left > 0 {
        let group = left.min(AT_ONCE);
        left -= group;
        // Random moments from the start of the program on, those of connecting among them.
        let mut victims: Vec<(Duration, Spawned)> = Vec::new();
        for _ in 0..group {
            let moment = Duration::from_micros(random.below(60_000) as u64);
            victims.push((
                moment,
                Spawned::mix(random.draw() >> 16, 2, &["--seconds", "600"])?,
            ));
        }
        victims.sort_by_key(|(moment, _)| *moment);
        let began = Instant::now();
        for (moment, victim) in victims {
            std::thread::sleep(moment.saturating_sub(began.elapsed()));
            running += u64::from(victim.kill()?);
        }
    }
    let others = bystander.finish()?;
    before.wait_for(host.server)?;
    host.check_channels()?;
    before.wait_for(host.server)?;
    Ok(format!(
        "{kills} processes killed, {running} of them at work; beside them {others}; left behind: nothing ({} threads, {} descriptors as before)",
        before.threads, before.descriptors
    ))
}

/// Kills half of many processes at once; the others' results are right.
pub fn half(seed: u64, processes: u64, host: Host) -> Result<String> {
    cuda::init()?;
    let _context = Context::primary()?;
    device::synchronize()?;
    let before = Held::look(host.server)?;
    let started: Result<Vec<_>> = (0..processes)
        .map(|n| Spawned::mix(seed.wrapping_add(n), 1, &["--operations", "150"]))
        .collect();
    let mut started = started?;
    for process in &mut started {
        let line = process.line()?;
        ensure!(line == RUNNING, "a process says {line:?}");
    }
    let (mut killed, mut survivors) = (Vec::new(), Vec::new());
    for (n, process) in started.into_iter().enumerate() {
        match n % 2 {
            0 => killed.push(process),
            _ => survivors.push(process),
        }
    }
    for process in &mut killed {
        process.child.kill()?;
    }
    drop(killed);
    let count = survivors.len();
    survivors
        .into_iter()
        .try_for_each(|one| one.finish().map(drop))?;
    before.wait_for(host.server)?;
    Ok(format!(
        "{count} of {processes} killed at once, the others were right; {} threads, {} descriptors as before",
        before.threads, before.descriptors
    ))
}

/// Times that a process's threads were given a core, or gave it away.
fn switches(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread that ends meanwhile has no file.
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status
            .lines()
            .filter_map(|line| line.split_once("ctxt_switches:"))
            .filter_map(|(_, n)| n.trim().parse::<u64>().ok());
        sum += counts.sum::<u64>();
    }
    Ok(sum)
}

/// Does some work of each kind and then nothing: the host must not wake up for it.
pub fn idle(time: Duration, host: Host) -> Result<String> {
    let server = host
        .server
        .context("the host's process is not known: --server PID")?;
    cuda::init()?;
    let _context = Context::primary()?;
    let kernels = Kernels::load()?;
    let memory = Memory::new(1000)?;
    memory.write(&[7; 1000], None)?;
    let stream = Stream::new(false)?;
    kernels.churn(memory, (3, 1, 1), stream)?;
    let notes = super::device::Notes::default();
    stream.note(&notes, 1)?;
    stream.synchronize()?;
    ensure!(memory.read(None)? == [22; 1000] && notes.all() == [1]);
    // What was going on comes to its end.
    std::thread::sleep(Duration::from_millis(500));
    let own = std::process::id();
    let (before, own_before) = (switches(server)?, switches(own)?);
    std::thread::sleep(time);
    // This thread's own sleep and its look at the files are no wake-ups of the library.
    let (after, own_after) = (switches(server)?, switches(own)?);
    let woken = after - before;
    ensure!(
        woken == 0,
        "the host's threads were switched {woken} times in {time:?} for a process that does nothing"
    );
    memory.free()?;
    Ok(format!(
        "no thread of the host was switched to in {:.1} s; in the idle process {} switches",
        time.as_secs_f64(),
        own_after - own_before
    ))
}

/// Opens a context and waits for the end of the input.
pub fn hold() -> Result<()> {
    let opened = cuda::init().and_then(|()| Context::primary());
    match &opened {
        Ok(_) => println!("{RUNNING}"),
        Err(error) => println!("{error:#}"),
    }
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
