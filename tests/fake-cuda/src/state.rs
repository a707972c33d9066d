//! The fake GPU: contexts, streams with queues, events, memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::conf::{Conf, own_path};

pub type Handle = usize;

pub const SUCCESS: u32 = 0;
pub const INVALID_VALUE: u32 = 1;
pub const OUT_OF_MEMORY: u32 = 2;
pub const NOT_INITIALIZED: u32 = 3;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_HANDLE: u32 = 400;
pub const NOT_READY: u32 = 600;
pub const ILLEGAL_ADDRESS: u32 = 700;

/// Ends the process: the caller has broken a rule.
pub fn die(what: &str) -> ! {
    eprintln!("fake libcuda: {what}");
    std::process::abort()
}

thread_local! {
    /// Each thread's stack of contexts.
    pub static CURRENT: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

pub struct State {
    pub conf: Conf,
    path: PathBuf,
    log: File,
    calls: HashMap<&'static str, u64>,
    next_handle: Handle,
    next_address: u64,
    next_seq: u64,
    /// Operations in all streams.
    queued: usize,
    pub initialized: bool,
    pub contexts: BTreeMap<Handle, Context>,
    pub streams: BTreeMap<Handle, Stream>,
    pub events: BTreeMap<Handle, Event>,
    pub modules: BTreeMap<Handle, Module>,
    pub functions: BTreeMap<Handle, Function>,
    pub memory: BTreeMap<u64, Memory>,
    pub pins: Vec<Pin>,
}

pub struct Context {
    pub error: u32,
    pub limits: BTreeMap<u32, usize>,
}

pub struct Stream {
    pub ctx: Handle,
    /// The context's legacy default stream; its handle is the context's.
    pub default: bool,
    pub blocking: bool,
    /// Destroyed with work left.
    pub dying: bool,
    pub ops: VecDeque<(u64, Op)>,
}

pub enum Op {
    Busy(u32),
    Endless,
    Illegal,
    /// Reads host memory when it is executed, as DMA does.
    FromHost {
        to: u64,
        from: usize,
        bytes: usize,
    },
    Write {
        to: u64,
        data: Vec<u8>,
    },
    Copy {
        to: u64,
        from: u64,
        bytes: u64,
    },
    Set {
        to: u64,
        pitch: u64,
        width: usize,
        value: u32,
        count: u64,
        rows: u64,
    },
    Record {
        event: Handle,
        generation: u64,
    },
    Wait {
        event: Handle,
        generation: u64,
    },
}

pub struct Event {
    pub ctx: Handle,
    pub timing: bool,
    pub recorded: u64,
    pub reached: u64,
    pub time: u64,
}

pub struct Module {
    pub ctx: Handle,
    pub text: String,
    pub globals: BTreeMap<String, u64>,
}

pub struct Function {
    pub module: Handle,
    pub name: String,
    pub params: Vec<(usize, usize)>,
}

pub struct Memory {
    pub ctx: Handle,
    pub bytes: Vec<u8>,
    pub global: bool,
}

pub struct Pin {
    pub ctx: Handle,
    pub base: usize,
    pub bytes: usize,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    let path = own_path();
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path.with_extension("log"));
    Mutex::new(State {
        conf: Conf::default(),
        log: log.unwrap_or_else(|e| die(&format!("cannot write the log: {e}"))),
        path,
        calls: HashMap::new(),
        next_handle: 0x5000_0000,
        next_address: 0x7f00_0000_0000,
        next_seq: 1,
        queued: 0,
        initialized: false,
        contexts: BTreeMap::new(),
        streams: BTreeMap::new(),
        events: BTreeMap::new(),
        modules: BTreeMap::new(),
        functions: BTreeMap::new(),
        memory: BTreeMap::new(),
        pins: Vec::new(),
    })
});

pub fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a call: counts it, logs it, lets it fail where that is asked for.
pub fn call(name: &'static str, body: impl FnOnce(&mut State) -> Result<(), u32>) -> u32 {
    let mut state = lock();
    state.conf = Conf::read(&state.path.with_extension("conf"));
    let count = state.calls.entry(name).or_insert(0);
    *count += 1;
    let count = *count;
    let query = matches!(
        name,
        "cuStreamQuery"
            | "cuEventQuery"
            | "cuCtxSetCurrent"
            | "cuDeviceGetAttribute"
            | "cuFuncGetAttribute"
    );
    let asked = state
        .conf
        .fail
        .iter()
        .find(|(call, nth, _)| call == name && nth.is_none_or(|n| n == count));
    let result = match asked.map(|(_, _, status)| *status) {
        Some(status) => Err(status),
        None if !state.initialized && !matches!(name, "cuInit" | "cuDriverGetVersion") => {
            Err(NOT_INITIALIZED)
        }
        None => body(&mut state),
    };
    let result = result.err().unwrap_or(SUCCESS);
    if !query {
        let line = if result == SUCCESS {
            name.to_owned()
        } else {
            format!("{name} = {result}")
        };
        state.write(&line);
        if ["Destroy", "Free", "Unload", "Unregister"]
            .iter()
            .any(|word| name.contains(word))
        {
            let line = state.live();
            state.write(&line);
        }
    }
    result
}

impl State {
    fn write(&mut self, line: &str) {
        if let Err(error) = writeln!(self.log, "{line}") {
            die(&format!("cannot write the log: {error}"));
        }
    }

    fn live(&self) -> String {
        format!(
            "live contexts={} streams={} events={} modules={} memory={} pins={}",
            self.contexts.len(),
            self.streams
                .values()
                .filter(|s| !s.default && !s.dying)
                .count(),
            self.events.len(),
            self.modules.len(),
            self.memory.values().filter(|m| !m.global).count(),
            self.pins.len()
        )
    }

    pub fn handle(&mut self) -> Handle {
        self.next_handle += 16;
        self.next_handle
    }

    fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    /// The context that is current in this thread, unless it has failed.
    pub fn current(&self) -> Result<Handle, u32> {
        let Some(ctx) = CURRENT.with_borrow(|stack| stack.last().copied()) else {
            return Err(INVALID_CONTEXT);
        };
        match self.contexts.get(&ctx) {
            None => die("the current context is a destroyed one"),
            Some(context) if context.error != 0 => Err(context.error),
            Some(_) => Ok(ctx),
        }
    }

    /// The stream of a handle, of which null is the current context's default stream.
    pub fn stream(&mut self, raw: Handle) -> Result<&mut Stream, u32> {
        let current = self.current()?;
        let key = if raw == 0 { current } else { raw };
        let Some(stream) = self.streams.get_mut(&key) else {
            die(&format!("{raw:#x} is no stream"))
        };
        if raw != 0 && (stream.default || stream.dying) {
            die(&format!("{raw:#x} is no stream of the caller's"));
        }
        match self
            .contexts
            .get(&stream.ctx)
            .map_or(INVALID_CONTEXT, |c| c.error)
        {
            0 => Ok(stream),
            error => Err(error),
        }
    }

    pub fn event(&mut self, raw: Handle) -> Result<&mut Event, u32> {
        let Some(event) = self.events.get_mut(&raw) else {
            die(&format!("{raw:#x} is no event"))
        };
        match self
            .contexts
            .get(&event.ctx)
            .map_or(INVALID_CONTEXT, |c| c.error)
        {
            0 => Ok(event),
            error => Err(error),
        }
    }

    /// Queues work, and does what can be done.
    pub fn submit(&mut self, stream: Handle, op: Op) -> Result<(), u32> {
        self.stream(stream)?;
        let seq = self.seq();
        self.stream(stream)?.ops.push_back((seq, op));
        self.queued += 1;
        // What was submitted runs at once where nothing is before it; time passes only at queries.
        self.run(false);
        Ok(())
    }

    /// True when a stream has no work, and nothing that it is ordered with has.
    pub fn is_idle(&self, key: Handle) -> bool {
        self.streams.get(&key).is_none_or(|s| s.ops.is_empty())
    }

    pub fn ctx_is_idle(&self, ctx: Handle) -> bool {
        self.queued == 0
            || self
                .streams
                .values()
                .filter(|s| s.ctx == ctx)
                .all(|s| s.ops.is_empty())
    }

    /// Executes what can be executed; with `tick`, running kernels come one query closer to their
    /// end.
    pub fn run(&mut self, tick: bool) {
        if self.queued == 0 {
            return;
        }
        if tick {
            for stream in self.streams.values_mut() {
                if let Some((_, Op::Busy(left))) = stream.ops.front_mut() {
                    *left = left.saturating_sub(1);
                }
            }
        }
        while let Some(key) = self.next_ready() {
            let Some(stream) = self.streams.get_mut(&key) else {
                return;
            };
            let ctx = stream.ctx;
            let Some((_, op)) = stream.ops.pop_front() else {
                return;
            };
            if let Err(error) = self.execute(op) {
                self.fail(ctx, error);
            }
        }
        self.streams.retain(|_, s| !s.dying || !s.ops.is_empty());
        self.queued = self.streams.values().map(|s| s.ops.len()).sum();
    }

    fn fail(&mut self, ctx: Handle, error: u32) {
        if let Some(context) = self.contexts.get_mut(&ctx) {
            context.error = error;
        }
        self.streams
            .values_mut()
            .filter(|s| s.ctx == ctx)
            .for_each(|s| s.ops.clear());
    }

    fn next_ready(&self) -> Option<Handle> {
        self.streams
            .iter()
            .find(|(_, stream)| self.front_is_ready(stream))
            .map(|(key, _)| *key)
    }

    fn front_is_ready(&self, stream: &Stream) -> bool {
        let Some((seq, op)) = stream.ops.front() else {
            return false;
        };
        // The legacy default stream waits for all blocking streams, and they for it.
        let before = |other: &Stream| {
            other.ctx == stream.ctx && other.ops.front().is_some_and(|(s, _)| s < seq)
        };
        let ordered = |other: &Stream| {
            stream.default && other.blocking && !other.default
                || stream.blocking && !stream.default && other.default
        };
        if self
            .streams
            .values()
            .any(|other| ordered(other) && before(other))
        {
            return false;
        }
        match op {
            Op::Busy(left) => *left == 0,
            Op::Endless => self.conf.release,
            Op::Wait { event, generation } => self
                .events
                .get(event)
                .is_none_or(|e| e.reached >= *generation),
            _ => true,
        }
    }

    fn execute(&mut self, op: Op) -> Result<(), u32> {
        match op {
            Op::Busy(_) | Op::Endless | Op::Wait { .. } => {}
            Op::Illegal => return Err(ILLEGAL_ADDRESS),
            Op::FromHost { to, from, bytes } => {
                // SAFETY: the caller of cuMemcpyHtoDAsync keeps the source until the copy is done.
                let data = unsafe { std::slice::from_raw_parts(from as *const u8, bytes) }.to_vec();
                self.device(to, bytes as u64).copy_from_slice(&data);
            }
            Op::Write { to, data } => self.device(to, data.len() as u64).copy_from_slice(&data),
            Op::Copy { to, from, bytes } => {
                let data = self.device(from, bytes).to_vec();
                self.device(to, bytes).copy_from_slice(&data);
            }
            Op::Set {
                to,
                pitch,
                width,
                value,
                count,
                rows,
            } => {
                let element = &value.to_le_bytes()[..width];
                for row in 0..rows {
                    let bytes = self.device(to + row * pitch, count * width as u64);
                    bytes
                        .chunks_mut(width)
                        .for_each(|e| e.copy_from_slice(element));
                }
            }
            Op::Record { event, generation } => {
                let time = self.seq();
                if let Some(event) = self.events.get_mut(&event) {
                    event.reached = event.reached.max(generation);
                    event.time = time;
                }
            }
        }
        Ok(())
    }

    /// Device memory, which must be there.
    pub fn device(&mut self, address: u64, bytes: u64) -> &mut [u8] {
        match self.find(address, bytes) {
            Some(found) => found,
            None => die(&format!(
                "{bytes} bytes at {address:#x} are no device memory: an unchecked address"
            )),
        }
    }

    pub fn find(&mut self, address: u64, bytes: u64) -> Option<&mut [u8]> {
        let (base, memory) = self.memory.range_mut(..=address).next_back()?;
        let at = usize::try_from(address - base).ok()?;
        memory
            .bytes
            .get_mut(at..at.checked_add(usize::try_from(bytes).ok()?)?)
    }

    pub fn memory_limit(&self) -> u64 {
        self.conf.memory.unwrap_or(64 << 20)
    }

    pub fn memory_used(&self) -> u64 {
        self.memory.values().map(|m| m.bytes.len() as u64).sum()
    }

    /// Allocates memory that holds what someone else left there.
    pub fn allocate(&mut self, bytes: u64, global: bool) -> Result<u64, u32> {
        let ctx = self.current()?;
        if self.memory_used().saturating_add(bytes) > self.memory_limit() {
            return Err(OUT_OF_MEMORY);
        }
        let address = self.next_address;
        self.next_address += bytes.next_multiple_of(2 << 20) + (2 << 20);
        self.memory.insert(
            address,
            Memory {
                ctx,
                bytes: vec![0xaa; bytes as usize],
                global,
            },
        );
        Ok(address)
    }

    /// Dies where a copy in flight reads memory that is being unpinned.
    pub fn must_be_unread(&self, pin: &Pin) {
        let end = pin.base + pin.bytes;
        let reads =
            |op: &Op| matches!(op, Op::FromHost { from, .. } if (pin.base..end).contains(from));
        if self
            .streams
            .values()
            .any(|stream| stream.ops.iter().any(|(_, op)| reads(op)))
        {
            die("memory is unpinned while a copy from it is in flight");
        }
    }

    /// Dies where a call would wait for work in flight.
    pub fn must_be_idle(&self, call: &str, ctx: Handle) {
        if !self.ctx_is_idle(ctx) {
            die(&format!(
                "{call} would wait for work in flight, in a way that cannot be ended"
            ));
        }
    }
}
