//! The fake GPU: contexts, streams with queues, events, memory.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::conf::{Conf, own_path};
use crate::virtual_memory::VirtualMemory;

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
    /// The call that is to fail, and how many there were since that was asked for.
    failing: (Option<(u64, u32)>, u64),
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
    pub links: BTreeMap<Handle, Link>,
    pub functions: BTreeMap<Handle, Function>,
    pub memory: BTreeMap<u64, Memory>,
    pub pins: Vec<Pin>,
    pub graphs: BTreeMap<Handle, Graph>,
    /// Executable ones: context and work.
    pub execs: BTreeMap<Handle, (Handle, Vec<Op>)>,
    pub virtual_memory: VirtualMemory,
}

pub struct Link {
    pub ctx: Handle,
    /// Options with their values; those of the logs are buffers.
    pub options: Vec<(u32, usize)>,
    pub text: String,
    pub image: Vec<u8>,
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
    /// The graph that its work goes to, and the nodes that the next one follows.
    pub capture: Option<(Handle, Vec<Handle>)>,
}

pub struct Graph {
    pub ctx: Handle,
    /// Handle, work and what it follows, in the order in which they were made.
    pub nodes: Vec<(Handle, Option<Op>, Vec<Handle>)>,
}

#[derive(Clone)]
pub enum Op {
    /// Calls a function of the caller's in a thread of its own.
    Call {
        function: usize,
        data: usize,
    },
    /// Such a function is being called.
    Called(Arc<AtomicBool>),
    /// A word is written.
    WriteWord {
        to: u64,
        value: u64,
        bytes: usize,
    },
    /// A word is waited for: the flags are CUDA's.
    WaitWord {
        at: u64,
        value: u64,
        bytes: usize,
        flags: u32,
    },
    /// Nodes of graphs: which record it is, is known at the launch.
    RecordNode(Handle),
    WaitNode(Handle),
    Busy(u32),
    Endless,
    Illegal,
    /// Text to the standard output, and to the standard error.
    Print,
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
    /// The GPU reaches it.
    pub mapped: bool,
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
        failing: (None, 0),
        next_handle: 0x5000_0000,
        next_address: 0x7f00_0000_0000,
        next_seq: 1,
        queued: 0,
        initialized: false,
        contexts: BTreeMap::new(),
        streams: BTreeMap::new(),
        events: BTreeMap::new(),
        modules: BTreeMap::new(),
        links: BTreeMap::new(),
        functions: BTreeMap::new(),
        memory: BTreeMap::new(),
        pins: Vec::new(),
        graphs: BTreeMap::new(),
        execs: BTreeMap::new(),
        virtual_memory: VirtualMemory::default(),
    })
});

pub fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a call ends something.
fn ends(name: &str) -> bool {
    [
        "Destroy",
        "Free",
        "Unload",
        "Unregister",
        "Release",
        "Unmap",
    ]
    .iter()
    .any(|word| name.contains(word))
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
    let asked = asked.map(|(_, _, status)| *status);
    let swept = state.is_swept(query || ends(name));
    let result = match asked.or(swept).or(state.conf.lost) {
        Some(status) => Err(status),
        None if !state.initialized && !matches!(name, "cuInit" | "cuDriverGetVersion") => {
            Err(NOT_INITIALIZED)
        }
        None => body(&mut state),
    };
    let result = result.err().unwrap_or(SUCCESS);
    if !query || state.conf.queries && name != "cuCtxSetCurrent" {
        let line = if result == SUCCESS {
            name.to_owned()
        } else {
            format!("{name} = {result}")
        };
        state.write(&line);
        if ends(name) {
            let line = state.live();
            state.write(&line);
        }
    }
    result
}

impl State {
    /// The result of a call that is to fail because of its number.
    fn is_swept(&mut self, uncounted: bool) -> Option<u32> {
        if self.failing.0 != self.conf.failing {
            self.failing = (self.conf.failing, 0);
        }
        let (nth, status) = self.failing.0?;
        if uncounted {
            return None;
        }
        self.failing.1 += 1;
        (self.failing.1 == nth).then_some(status)
    }

    pub fn write(&mut self, line: &str) {
        if let Err(error) = writeln!(self.log, "{line}") {
            die(&format!("cannot write the log: {error}"));
        }
    }

    fn live(&self) -> String {
        format!(
            "live contexts={} streams={} events={} modules={} memory={} pins={} graphs={}",
            self.contexts.len(),
            self.streams
                .values()
                .filter(|s| !s.default && !s.dying)
                .count(),
            self.events.len(),
            self.modules.len(),
            self.memory.values().filter(|m| !m.global).count()
                + self.virtual_memory.physical.len()
                + self.virtual_memory.reservations.len(),
            self.pins.len(),
            self.graphs.len() + self.execs.len()
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
        let capture = self.stream(stream)?.capture.clone();
        if let Some((graph, after)) = capture {
            let node = self.handle();
            if let Some(graph) = self.graphs.get_mut(&graph) {
                graph.nodes.push((node, Some(op), after));
            }
            if let Some((_, after)) = &mut self.stream(stream)?.capture {
                *after = vec![node];
            }
            return Ok(());
        }
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
            let Some((seq, op)) = stream.ops.pop_front() else {
                return;
            };
            if let Op::Call { function, data } = op {
                let done = Arc::new(AtomicBool::new(false));
                stream.ops.push_front((seq, Op::Called(Arc::clone(&done))));
                std::thread::spawn(move || {
                    // SAFETY: the caller of cuLaunchHostFunc gave a function of this type.
                    let function: extern "C" fn(usize) = unsafe { std::mem::transmute(function) };
                    function(data);
                    done.store(true, Ordering::Release);
                });
                continue;
            }
            if let Err(error) = self.execute(op) {
                self.fail(ctx, error);
            }
        }
        self.streams.retain(|_, s| !s.dying || !s.ops.is_empty());
        self.queued = self.streams.values().map(|s| s.ops.len()).sum();
    }

    /// Ends a context; where errors are the process's, each one, and those that are made later.
    fn fail(&mut self, ctx: Handle, error: u32) {
        let all = self.conf.sticky_process;
        for (handle, context) in &mut self.contexts {
            if all || *handle == ctx {
                context.error = error;
            }
        }
        self.streams
            .values_mut()
            .filter(|s| all || s.ctx == ctx)
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
            Op::Called(done) => done.load(Ordering::Acquire),
            Op::WaitWord {
                at,
                value,
                bytes,
                flags,
            } => self.word_is(*at, *value, *bytes, *flags),
            Op::Wait { event, generation } => self
                .events
                .get(event)
                .is_none_or(|e| e.reached >= *generation),
            _ => true,
        }
    }

    fn word_is(&self, at: u64, value: u64, bytes: usize, flags: u32) -> bool {
        let (base, memory) = match self.memory.range(..=at).next_back() {
            Some(found) => found,
            None => die("a wait for a word that is no device memory"),
        };
        let from = (at - base) as usize;
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(&memory.bytes[from..from + bytes]);
        let found = u64::from_le_bytes(word);
        match flags {
            0 => found >= value,
            1 => found == value,
            2 => found & value != 0,
            _ => !(found | value) & ((1u128 << (8 * bytes)) - 1) as u64 != 0,
        }
    }

    fn execute(&mut self, op: Op) -> Result<(), u32> {
        match op {
            Op::Call { .. } | Op::Called(_) | Op::WaitWord { .. } => {}
            Op::RecordNode(_) | Op::WaitNode(_) => die("a node of a graph in a stream"),
            Op::WriteWord { to, value, bytes } => {
                let value = value.to_le_bytes();
                self.device(to, bytes as u64)
                    .copy_from_slice(&value[..bytes]);
            }
            Op::Busy(_) | Op::Endless | Op::Wait { .. } => {}
            Op::Illegal => return Err(ILLEGAL_ADDRESS),
            Op::Print => {
                // As the driver does it: with the C library's streams.
                // SAFETY: a text without directives that ends with a NUL.
                unsafe { libc::printf(c"fake kernel: text\n".as_ptr()) };
                eprintln!("fake kernel: complaint");
            }
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
        let user = self.current().ok();
        if let Some(mapped) = self.virtual_memory.find(address, bytes, user) {
            return Some(mapped);
        }
        let (begin, length) = (address as usize, usize::try_from(bytes).ok()?);
        let holds = |p: &Pin| {
            p.mapped && begin >= p.base && begin.saturating_add(length) <= p.base + p.bytes
        };
        if self.pins.iter().any(holds) {
            // SAFETY: memory that was registered, as long as it is; the tests that share it with
            // threads of theirs wait for the copy first.
            return Some(unsafe { std::slice::from_raw_parts_mut(begin as *mut u8, length) });
        }
        let (base, memory) = self.memory.range_mut(..=address).next_back()?;
        let at = usize::try_from(address - base).ok()?;
        memory
            .bytes
            .get_mut(at..at.checked_add(usize::try_from(bytes).ok()?)?)
    }

    /// True where registered memory has the GPU's address.
    pub fn same_addresses(&self) -> bool {
        const CAN_USE_HOST_POINTER: u32 = 91;
        self.conf.attributes.get(&CAN_USE_HOST_POINTER) != Some(&0)
    }

    pub fn memory_limit(&self) -> u64 {
        self.conf.memory.unwrap_or(64 << 20)
    }

    pub fn memory_used(&self) -> u64 {
        let allocated: u64 = self.memory.values().map(|m| m.bytes.len() as u64).sum();
        allocated + self.virtual_memory.used()
    }

    /// Addresses that were never given out before.
    pub fn take_addresses(&mut self, bytes: u64) -> u64 {
        let address = self.next_address;
        self.next_address += bytes.next_multiple_of(2 << 20) + (2 << 20);
        address
    }

    /// Allocates memory that holds what someone else left there.
    pub fn allocate(&mut self, bytes: u64, global: bool) -> Result<u64, u32> {
        let ctx = self.current()?;
        if self.memory_used().saturating_add(bytes) > self.memory_limit() {
            return Err(OUT_OF_MEMORY);
        }
        let address = self.take_addresses(bytes);
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
