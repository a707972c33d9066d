//! Starting and ending worker processes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vgpu_mediator::Ledger;
use vgpu_mediator::cancel::Cancel;

use super::choice::IsolationError;
use super::packet::{MAX_PACKET_BYTES, Order, Report, Setup, VERSION};
use crate::config::Properties;
use crate::doorbell::Doorbell;
use crate::memory::{self, SharedMemory};
use crate::socket::{Connection, wait_any};

/// Longest time in which a worker process may open its backend: loading the driver on a machine
/// with many GPUs takes seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How often the wait for it looks whether the session is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// How long a worker process may take to end its session before it is killed. One whose kernel
/// does not end takes longer, and its GPU memory is freed by the kill.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The driver's cache of compiled kernels: its size by default, 1 GiB, is less than one large
/// program fills, and the driver takes at most 4 GiB (CUDA Environment Variables,
/// CUDA_CACHE_MAXSIZE).
const CACHE_BYTES: &str = "4294967296";

/// A worker process; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    socket: Connection,
    /// Its backend is open.
    ready: bool,
    ended: bool,
}

/// What a worker process says of the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// True for the software GPU.
    pub soft: bool,
    /// Memory of the GPU in bytes.
    pub total_bytes: u64,
}

impl Process {
    fn spawn(program: &Path, setup: &Setup, fds: [&OwnedFd; 2]) -> io::Result<Process> {
        let (socket, theirs) = Connection::pair()?;
        let mut command = Command::new(program);
        // The socket is its standard input: nothing else has to be passed on.
        command.stdin(Stdio::from(theirs)).arg0(program);
        for (name, value) in cache_variables(|name| std::env::var_os(name).is_some()) {
            command.env(name, value);
        }
        let child = command.spawn()?;
        drop(command);
        let process = Process {
            child,
            socket,
            ready: false,
            ended: false,
        };
        let order = Order::Setup(setup.clone()).to_bytes();
        // One that has ended already shows it when its first packet is waited for.
        let _ = process.socket.send(&order, &fds.map(AsFd::as_fd));
        Ok(process)
    }

    /// The one that waits to be used may have been killed meanwhile.
    fn if_alive(mut self) -> Option<Process> {
        matches!(self.child.try_wait(), Ok(None)).then_some(self)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of the connection to it.
    pub fn socket(&self) -> &Connection {
        &self.socket
    }

    /// The next packet; `None` when it has ended, or says nothing that means anything.
    pub fn report(&self) -> Option<Report> {
        let mut packet = vec![0; MAX_PACKET_BYTES];
        match self.socket.receive(&mut packet) {
            Ok(bytes @ 1..) => Report::parse(packet.get(..bytes)?),
            _ => None,
        }
    }

    /// Waits until its backend is open.
    fn wait_ready(&mut self, cancel: &Cancel) -> Result<Facts, Option<String>> {
        let began = Instant::now();
        loop {
            if cancel.is_set() {
                return Err(Some("the session has ended".to_owned()));
            }
            match wait_any(&[self.socket.as_fd()], Some(LOOK)) {
                Ok(Some(_)) => {}
                Ok(None) if began.elapsed() < READY_LIMIT => continue,
                Ok(None) => return Err(Some(format!("it was not ready after {READY_LIMIT:?}"))),
                Err(error) => return Err(Some(error.to_string())),
            }
            match self.report() {
                Some(Report::Ready { soft, total_bytes }) => {
                    self.ready = true;
                    return Ok(Facts { soft, total_bytes });
                }
                Some(Report::Refused(why)) => return Err(Some(why)),
                Some(Report::Log(level, text)) => log(level, &text),
                Some(_) => {}
                None => return Err(None),
            }
        }
    }

    /// Has it serve a channel.
    pub fn open(&self, channel: u32, doorbell: &Doorbell) -> io::Result<()> {
        let order = Order::Open(channel).to_bytes();
        self.socket.send(&order, &[doorbell.as_fd()])
    }

    /// Asks it to end, and kills it when that takes too long. What it says meanwhile goes to
    /// `hear`.
    pub fn close(mut self, mut hear: impl FnMut(Report)) -> ExitStatusText {
        let _ = self.socket.send(&Order::Close.to_bytes(), &[]);
        let began = Instant::now();
        while let Some(left) = CLOSE_LIMIT.checked_sub(began.elapsed()) {
            match wait_any(&[self.socket.as_fd()], Some(left)) {
                Ok(Some(_)) => match self.report() {
                    Some(report) => hear(report),
                    None => return self.reap(),
                },
                Ok(None) => {}
                Err(_) => break,
            }
        }
        self.kill()
    }

    /// It has closed its end: how did it end?
    pub fn reap(&mut self) -> ExitStatusText {
        // A process that closes the socket and stays is none of ours.
        let began = Instant::now();
        while began.elapsed() < CLOSE_LIMIT {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.ended = true;
                    return ExitStatusText(Some(status));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        self.kill()
    }

    fn kill(&mut self) -> ExitStatusText {
        let _ = self.child.kill();
        self.ended = true;
        ExitStatusText(self.child.wait().ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

/// How a process has ended, in words.
#[derive(Clone, Copy, Debug)]
pub struct ExitStatusText(Option<ExitStatus>);

impl std::fmt::Display for ExitStatusText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            // "exit status: 1", "signal: 9 (SIGKILL)"
            Some(status) => write!(f, "{status}"),
            None => f.write_str("unknown"),
        }
    }
}

/// A line of a worker process in this process's log.
pub fn log(level: u8, text: &str) {
    match level {
        1 => tracing::error!(target: "vgpu::worker", "{text}"),
        2 => tracing::warn!(target: "vgpu::worker", "{text}"),
        3 => tracing::info!(target: "vgpu::worker", "{text}"),
        4 => tracing::debug!(target: "vgpu::worker", "{text}"),
        _ => tracing::trace!(target: "vgpu::call", "{text}"),
    }
}

/// The worker processes of one device: the next one is started before it is needed, because loading
/// the driver takes as long as many short programs run.
#[derive(Debug)]
pub struct Pool {
    program: PathBuf,
    setup: Setup,
    bar1: OwnedFd,
    ledger_memory: SharedMemory,
    ledger: Ledger,
    facts: Facts,
    spare: Mutex<Option<Process>>,
}

impl Pool {
    /// Starts the first worker process and waits until its backend is open.
    pub fn start(
        program: PathBuf,
        properties: &Properties,
        bar1: &SharedMemory,
    ) -> Result<Pool, IsolationError> {
        let failed = |why: String| IsolationError::Start {
            program: program.clone(),
            why,
        };
        let os = |error: io::Error| failed(error.to_string());
        let setup = Setup {
            version: VERSION,
            vm_id: properties.vm_id,
            channels: properties.channels,
            bar1_size: properties.bar1_size,
            memory: properties.memory,
            trace: tracing::enabled!(target: "vgpu::call", tracing::Level::TRACE),
            backend: properties.backend.clone(),
            gpu: properties.gpu.clone(),
        };
        let ledger_memory = SharedMemory::new(Ledger::BYTES).map_err(os)?;
        let bar1 = bar1.fd().try_clone_to_owned().map_err(os)?;
        let ledger = ledger_memory.fd().try_clone_to_owned().map_err(os)?;
        let mut first = Process::spawn(&program, &setup, [&bar1, &ledger]).map_err(os)?;
        let facts = first
            .wait_ready(&Cancel::default())
            .map_err(|why| match why {
                Some(why) => IsolationError::Refused(why),
                None => failed(format!("it ended before it was ready: {}", first.reap())),
            })?;
        drop(ledger);
        let ledger =
            Ledger::new(ledger_memory.window()).map_err(|error| failed(error.to_string()))?;
        Ok(Pool {
            program,
            setup,
            bar1,
            ledger_memory,
            ledger,
            facts,
            spare: Mutex::new(Some(first)),
        })
    }

    /// What the first one said.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// What the worker processes share.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    fn spawn(&self) -> io::Result<Process> {
        let ledger = self.ledger_memory.fd().try_clone_to_owned()?;
        Process::spawn(&self.program, &self.setup, [&self.bar1, &ledger])
    }

    fn spare(&self) -> MutexGuard<'_, Option<Process>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker process whose backend is open.
    pub fn take(&self, cancel: &Cancel) -> Result<Process, String> {
        let spare = self.spare().take();
        let mut process = match spare.and_then(Process::if_alive) {
            Some(process) => process,
            None => self.spawn().map_err(|error| error.to_string())?,
        };
        if !process.ready {
            process.wait_ready(cancel).map_err(|why| {
                why.unwrap_or_else(|| format!("it ended before it was ready: {}", process.reap()))
            })?;
        }
        Ok(process)
    }

    /// The process that served a channel is gone.
    pub fn clear(&self, channel: u32) {
        // Of BAR1, the upper half is the heap.
        let heap = self.setup.bar1_size / 2;
        self.ledger.free_heap(channel, heap, |piece, bytes| {
            memory::clear(self.bar1.as_fd(), heap + piece * bytes, bytes)
        });
        self.ledger.clear(channel);
    }

    /// Starts the one that is next. A failure shows when it is needed.
    pub fn refill(&self) {
        let mut spare = self.spare();
        if spare.is_none() {
            *spare = self.spawn().ok();
        }
    }
}

/// Where the driver keeps compiled kernels, as far as the user has not said it: a large program's
/// must all fit, and stay.
fn cache_variables(is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if !is_set("CUDA_CACHE_MAXSIZE") {
        variables.push(("CUDA_CACHE_MAXSIZE", CACHE_BYTES.to_owned()));
    }
    variables
}
