//! One boot: QEMU with the device, the guest's streams, and its end.

use std::ffi::OsString;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::accel::{self, Accel};
use super::kernel::Kernel;
use super::machine::Machine;
use super::options::Options;
use super::streams::{Input, Output, Port};
use crate::{cache, interrupt, qemu, shims};

/// A guest that is not up by then is dead: TCG on a busy machine needs less than 30 s. Seldom the emulated timer of one of
/// several virtual processors is silent from the start (the guest's kernel tells of stalls on its console), and such a
/// guest never comes up: it is started anew, once.
const BOOT_LIMITS: [Duration; 2] = [Duration::from_secs(90), Duration::from_secs(180)];

/// After it told its exit status the guest has so long to power off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);

/// How the guest ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status; 124 when time ran out, 130 when we were interrupted.
    pub status: i32,
    /// What it wrote, where that was kept.
    pub stdout: String,
    /// From the start of QEMU to the start of the command.
    pub boot: Duration,
    /// From the start of QEMU to its end.
    pub total: Duration,
    /// The PCI address at which the guest found the device.
    pub device: Option<String>,
    /// What ran the guest's code.
    pub accel: Accel,
}

impl Outcome {
    /// What ran it, and how long that took.
    pub fn timing(&self) -> String {
        format!(
            "{} ({}); device {}; the command started after {:.1} s, all took {:.1} s",
            self.accel.name(),
            self.accel.reason,
            self.device
                .as_deref()
                .map_or_else(|| "not found".to_owned(), |at| format!("at {at}")),
            self.boot.as_secs_f64(),
            self.total.as_secs_f64()
        )
    }
}

/// Boots a guest that runs `words`, or a shell where there are none.
pub fn run(
    options: &Options,
    words: &[OsString],
    input: Input,
    output: &Output,
) -> Result<Outcome> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the guest is an x86-64 machine, this host is {}",
        std::env::consts::ARCH
    );
    let program = match &options.qemu {
        Some(program) => qemu::Installed::plain(program.clone())?,
        None if options.no_build => qemu::last()?,
        None => qemu::installed()?,
    };
    let kernel = Kernel::fetch()?;
    let shims = if options.no_build {
        shims::last()?
    } else {
        shims::stage()?
    };
    let accel = accel::choose(&program.binary, &program.firmware, &kernel)?;
    let machine = Machine::new(options, words, &kernel, &shims)?;
    let mut never_up = String::new();
    for limit in BOOT_LIMITS {
        if !never_up.is_empty() {
            eprintln!("vm: {never_up}\nvm: it is started anew");
        }
        match start(&machine, &program, &accel, input, output, limit)? {
            Start::Ended(outcome) => return Ok(outcome),
            Start::NeverUp(why) => never_up = why,
        }
    }
    bail!(never_up)
}

/// How one start of a machine ended.
enum Start {
    Ended(Outcome),
    /// The guest did not come up; why one may think so.
    NeverUp(String),
}

fn start(
    machine: &Machine<'_>,
    program: &qemu::Installed,
    accel: &Accel,
    input: Input,
    output: &Output,
    boot_limit: Duration,
) -> Result<Start> {
    let options = machine.options;
    let ended = Arc::new(AtomicBool::new(false));
    let up = Arc::new(AtomicBool::new(false));
    let status = Port::open(machine.directory.path(), "status")?;
    let ports =
        ["stdin", "stdout", "stderr"].map(|name| Port::open(machine.directory.path(), name));
    let [stdin, stdout, stderr] = ports;
    let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
    let console = Port::open(machine.directory.path(), "console")?;
    let mut command = machine.command(
        program,
        accel,
        &[&status, &stdin, &stdout, &stderr],
        &console,
    )?;
    let (sender, told) = mpsc::channel();
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("run {}", program.binary.display()))?;
    let mut guest = Guest { child };
    let lines = status.lines(ended.clone(), sender);
    let input = if machine.interactive {
        Input::Null
    } else {
        input
    };
    stdin.feed(ended.clone(), up.clone(), input);
    let stdout = stdout.collect(ended.clone(), output.clone(), false);
    let stderr = stderr.collect(ended.clone(), output.clone(), true);
    let shown = if options.console {
        Output::Prefixed("console: ".to_owned())
    } else {
        Output::Capture
    };
    let console = console.collect(ended.clone(), shown, true);

    let mut progress = Progress {
        start,
        boot_limit,
        up: None,
        device: None,
        exit: None,
        exit_at: None,
        loader_cache: None,
    };
    let limit = if machine.interactive {
        Duration::MAX
    } else {
        options.limit()
    };
    let result = progress.follow(&mut guest.child, &told, &up, limit);
    guest.end();
    ended.store(true, Ordering::Release);
    let _ = lines.join();
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    let (stdout, _, console) = (text(stdout), text(stderr), text(console));
    for line in told.try_iter() {
        progress.take(&line);
    }
    if let Some(base64) = &progress.loader_cache {
        cache::write_if_changed(&machine.loader_cache, base64.as_bytes())?;
    }
    let status = match (result?, progress.exit) {
        (End::Interrupted, _) => 130,
        (End::TimeOut, _) => {
            eprintln!(
                "vm: the guest was ended after {} s (--timeout)",
                options.limit().as_secs()
            );
            124
        }
        (End::PoweredOff, Some(status)) => status,
        // QEMU got the same signal, and was faster.
        (End::PoweredOff, None) if interrupt::happened() => 130,
        (End::PoweredOff, None) => {
            bail!("the guest ended before its command did{}", tail(&console))
        }
        (End::NeverUp, _) => {
            return Ok(Start::NeverUp(format!(
                "the guest did not come up in {} s{}",
                boot_limit.as_secs(),
                tail(&console)
            )));
        }
    };
    Ok(Start::Ended(Outcome {
        status,
        stdout,
        boot: progress.up.unwrap_or_default(),
        total: start.elapsed(),
        device: progress.device,
        accel: accel.clone(),
    }))
}

/// Why the guest is no more.
enum End {
    PoweredOff,
    NeverUp,
    TimeOut,
    Interrupted,
}

/// What the guest told so far.
struct Progress {
    start: Instant,
    boot_limit: Duration,
    up: Option<Duration>,
    device: Option<String>,
    exit: Option<i32>,
    exit_at: Option<Instant>,
    /// The loader's cache that the guest made, in base64.
    loader_cache: Option<String>,
}

impl Progress {
    fn take(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("up", _)) => self.up = Some(self.start.elapsed()),
            Some(("device", address)) => self.device = Some(address.to_owned()),
            Some(("exit", status)) => {
                self.exit = status.parse().ok();
                self.exit_at = Some(Instant::now());
            }
            Some(("loader-cache", base64)) => self.loader_cache = Some(base64.to_owned()),
            _ => {}
        }
    }

    fn follow(
        &mut self,
        child: &mut Child,
        told: &mpsc::Receiver<String>,
        up: &AtomicBool,
        limit: Duration,
    ) -> Result<End> {
        loop {
            if interrupt::happened() {
                return Ok(End::Interrupted);
            }
            if let Some(status) = child.try_wait()? {
                if !status.success() && self.exit.is_none() {
                    bail!("QEMU ended with {status} (its message stands above)");
                }
                return Ok(End::PoweredOff);
            }
            match told.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => {
                    self.take(&line);
                    up.store(self.up.is_some(), Ordering::Release);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(5)),
            }
            if self
                .exit_at
                .is_some_and(|at| at.elapsed() > POWER_OFF_LIMIT)
            {
                return Ok(End::PoweredOff);
            }
            if self.up.is_none() && self.start.elapsed() > self.boot_limit {
                return Ok(End::NeverUp);
            }
            if self.exit.is_none() && self.start.elapsed() > limit {
                return Ok(End::TimeOut);
            }
        }
    }
}

/// A QEMU process that does not outlive us.
struct Guest {
    child: Child,
}

impl Guest {
    fn end(&mut self) {
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

/// The end of what the guest's kernel said, for an error message.
fn tail(console: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    let tail = lines
        .get(lines.len().saturating_sub(25)..)
        .unwrap_or_default();
    if tail.is_empty() {
        String::new()
    } else {
        format!("; its console:\n  {}", tail.join("\n  "))
    }
}
