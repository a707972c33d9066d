//! State of one warp.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::insn::NONE;
use super::memory::Memory;
use crate::jit::State;
use crate::ptx::ast::Special;

/// Deepest SIMT stack of a warp, calls included: bounds host memory of a
/// kernel that recurses for ever.
pub const MAX_SIMT_DEPTH: usize = 1 << 16;

/// Lanes that wait, or a call to return from.
#[derive(Clone, Copy, Debug)]
pub enum Entry {
    /// Lanes that continue at `pc` and meet the entry below at `rpc`.
    Lanes {
        /// Where they continue.
        pc: u32,
        /// Which.
        mask: u32,
        /// Where they meet others.
        rpc: u32,
    },
    /// A call.
    Call {
        /// Call site.
        site: u32,
        /// Function called.
        function: u32,
        /// Lanes that called.
        mask: u32,
        /// Where the caller's lanes meet others.
        rpc: u32,
        /// The caller's frame: byte offset, function.
        frame: usize,
        /// The caller's function.
        caller: u32,
        /// The caller's first byte of local memory.
        local_base: u64,
    },
}

/// How an access went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Outside every allocation, window or array.
    Illegal,
    /// Not a multiple of its size.
    Misaligned,
    /// Trap instruction.
    Trap,
    /// Failed device-side assertion.
    Assert,
    /// Too many nested calls, or local memory used up.
    StackOverflow,
    /// A call of something that is no function.
    BadCall,
    /// Every warp of the block waits at a barrier that cannot complete.
    Deadlock,
    /// None of its own: the launch is being aborted, or has used its time, and something was left undone.
    Ended,
}

/// A fault of one lane.
#[derive(Clone, Copy, Debug)]
pub struct LaneFault {
    /// Kind.
    pub kind: FaultKind,
    /// Lane.
    pub lane: u32,
    /// Address.
    pub addr: u64,
    /// Bytes of the access.
    pub bytes: u32,
    /// Space, and whether it was a write.
    pub space: &'static str,
    /// Whether it was a store or an atomic.
    pub write: bool,
}

/// What a warp is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Can run.
    Ready,
    /// Waits at a barrier.
    Barrier,
    /// Ended.
    Done,
}

/// Facts about the warp and its block that special registers show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Identity {
    /// Number of the warp in its block.
    pub warp: u32,
    /// Block.
    pub ctaid: [u32; 3],
    /// Block dimensions.
    pub ntid: [u32; 3],
    /// Grid dimensions.
    pub nctaid: [u32; 3],
    /// Number of the worker thread, as `%smid`.
    pub sm: u32,
    /// Number of workers, as `%nsmid`.
    pub sms: u32,
    /// Number of the launch.
    pub grid: u64,
    /// Dynamic shared memory.
    pub dynamic_shared: u32,
    /// All shared memory.
    pub total_shared: u32,
    /// Device address of a cooperative grid's workspace, or 0.
    pub workspace: u64,
}

impl Identity {
    /// Thread index of a lane.
    pub fn tid(&self, lane: u32) -> [u32; 3] {
        let t = self.warp * 32 + lane;
        let (x, y) = (self.ntid[0].max(1), self.ntid[1].max(1));
        [t % x, t / x % y, t / x / y]
    }

    /// Value of a special register that is fixed for the life of a warp.
    pub fn special(&self, s: Special, lane: u32) -> u64 {
        let threads: u32 = self.ntid.iter().product();
        u64::from(match s {
            Special::Tid(a) => self.tid(lane)[usize::from(a % 3)],
            Special::Ntid(a) => self.ntid[usize::from(a % 3)],
            Special::Ctaid(a) => self.ctaid[usize::from(a % 3)],
            Special::Nctaid(a) => self.nctaid[usize::from(a % 3)],
            Special::LaneId => lane,
            Special::WarpId => self.warp,
            Special::NWarpId => threads.div_ceil(32),
            Special::SmId => self.sm,
            Special::NSmId => self.sms,
            Special::GridId => return self.grid,
            Special::LaneMaskEq => 1 << lane,
            Special::LaneMaskLe => u32::MAX >> (31 - lane),
            Special::LaneMaskLt => (1 << lane) - 1,
            Special::LaneMaskGe => u32::MAX << lane,
            Special::LaneMaskGt => (u32::MAX << lane) & !(1 << lane),
            Special::DynamicSmemSize => self.dynamic_shared,
            Special::TotalSmemSize => self.total_shared,
            Special::WorkspaceHigh => (self.workspace >> 32) as u32,
            Special::WorkspaceLow => self.workspace as u32,
            Special::One => 1,
            _ => 0,
        })
    }
}

/// One warp.
pub struct Warp {
    /// Lanes that run.
    pub mask: u32,
    /// Lanes that ended.
    pub dead: u32,
    /// Next operation.
    pub pc: u32,
    /// Where the running lanes meet those that wait.
    pub rpc: u32,
    /// Lanes that wait and calls in progress.
    pub stack: Vec<Entry>,
    /// Byte offset of the current frame in the warp's register memory.
    pub frame: usize,
    /// Current function.
    pub function: u32,
    /// First byte of the current function's local memory.
    pub local_base: u64,
    /// What the warp is doing.
    pub status: Status,
    /// Identity.
    pub id: Identity,
    /// What its accesses may reach.
    pub memory: Memory,
    /// The fault, once a handler reported one.
    pub fault: Option<LaneFault>,
    /// Operation that faulted.
    pub fault_pc: u32,
    /// Barrier the warp waits at, and the result slot of a reduction.
    pub barrier: Option<(u32, u32)>,
    /// Base of the register memory.
    pub registers: *mut u8,
    /// Bytes of it.
    pub register_bytes: usize,
    /// Backward branches of a turn.
    pub turn: u32,
    /// Turns used up in a row.
    pub turns: u32,
    /// Fused chains of the program it runs.
    pub chains: *const super::fast::Chain,
    /// Registers of matrix operations of the program it runs.
    pub tiles: *const super::matrix::Tile,
    /// Whether it runs the reference code.
    pub reference: bool,
    /// Its groups of lanes, once they are scheduled one by one.
    pub threads: Option<Box<super::threads::Threads>>,
    /// The context's system calls.
    pub runtime: *const crate::runtime::DeviceRuntime,
    /// Whether the launch is being aborted, and when it is to end.
    pub abort: *const AtomicBool,
    /// See [`Warp::abort`].
    pub deadline: Option<Instant>,
    /// What compiled code keeps.
    pub jit: State,
}

/// Backward branches after which a warp lets the others of its block run, so
/// that a warp may wait for another one's memory.
pub const TURN: u32 = 1 << 14;

/// The same in a cooperative grid, whose blocks wait for each other: less, because all that wait
/// use theirs up before the one that they wait for has its next.
pub const COOPERATIVE_TURN: u32 = 1 << 10;

impl Warp {
    /// Counts lanes as ended that stand at the end of the kernel, `exit`, and wait for others to
    /// meet there. True if there were any.
    pub fn retire(&mut self, exit: u32) -> bool {
        let mut seen = self.mask;
        let mut ended = 0;
        for e in self.stack.iter().rev() {
            match e {
                Entry::Lanes { pc, mask, .. } => {
                    if *pc == exit {
                        ended |= mask & !seen;
                    }
                    seen |= mask;
                }
                Entry::Call { mask, .. } => seen |= mask,
            }
        }
        let before = self.dead;
        self.dead |= ended;
        self.dead != before
    }

    /// Whether all lanes that have not ended run.
    pub fn whole(&self) -> bool {
        self.mask | self.dead == u32::MAX
    }

    /// Whether lanes wait that [`Warp::pop`] would take.
    pub fn others_wait(&self) -> bool {
        let live = |e: &Entry| matches!(e, Entry::Lanes { mask, .. } if mask & !self.dead != 0);
        self.stack.iter().rev().any(live)
    }

    /// Takes the next waiting lanes; false if the warp has ended.
    pub fn pop(&mut self) -> bool {
        while let Some(e) = self.stack.pop() {
            match e {
                Entry::Lanes { pc, mask, rpc } => {
                    let mask = mask & !self.dead;
                    if mask != 0 {
                        (self.pc, self.mask, self.rpc) = (pc, mask, rpc);
                        return true;
                    }
                }
                Entry::Call {
                    frame,
                    caller,
                    local_base,
                    ..
                } => {
                    // All lanes of the call ended.
                    (self.frame, self.function, self.local_base) = (frame, caller, local_base);
                }
            }
        }
        self.mask = 0;
        self.rpc = NONE;
        self.status = Status::Done;
        false
    }
}
