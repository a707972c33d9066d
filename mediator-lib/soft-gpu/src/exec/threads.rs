//! Independent thread scheduling (CUDA C++ Programming Guide, "Independent Thread Scheduling"):
//! lanes of a warp that wait for each other run as groups, each with a place in the code and calls of
//! its own, and take turns.
//!
//! A warp starts with a stack of lanes that meet again. It comes here, in the reference code, when that
//! is not enough: a `.sync` operation or a barrier that lanes reach on different paths, or lanes that
//! spin for what others hold.
#![allow(unsafe_code)] // calls handlers on frames

mod calls;
mod exchange;

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use self::calls::{call, leave};
use self::exchange::exchange;
use super::insn::{EVENT_ALIGNED, EVENT_SPLIT, Insn, Kind, Program};
use super::run::{Stop, lane_at, mask_at, raise};
use super::warp::{Entry, FaultKind, Warp};

/// Backward branches after which the next group runs.
const GROUP_TURN: u32 = 1 << 8;

/// A call in progress, or the kernel itself.
#[derive(Debug)]
struct Node {
    offset: usize,
    function: u32,
    local_base: u64,
    /// Who called, and from which site.
    parent: Option<(Rc<Node>, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Waits at the operation at `pc` until the lanes that it names have come.
    Sync,
    /// Waits at a barrier of the block: number, and the operation.
    Barrier(u32, u32),
}

/// Lanes that run together.
#[derive(Debug)]
struct Group {
    mask: u32,
    pc: u32,
    node: Rc<Node>,
    state: State,
    /// Lets others come to the place where it stands before it goes on.
    parked: bool,
}

/// The groups of a warp.
#[derive(Debug)]
pub struct Threads {
    groups: Vec<Group>,
    current: usize,
    /// Register memory of calls that have ended: offset and bytes.
    free: Vec<(usize, usize)>,
    top: usize,
    /// The next group that waits for lanes which cannot come goes on without them.
    force: bool,
}

impl Threads {
    /// The groups that a warp's stack of lanes stands for.
    pub fn new(w: &Warp, program: &Program) -> Threads {
        let calls: Vec<&Entry> = w
            .stack
            .iter()
            .filter(|e| matches!(e, Entry::Call { .. }))
            .collect();
        let place = |k: usize| match calls.get(k) {
            Some(Entry::Call {
                frame, local_base, ..
            }) => (*frame, *local_base),
            _ => (w.frame, w.local_base),
        };
        let (offset, local_base) = place(0);
        let mut nodes = vec![Rc::new(Node {
            offset,
            function: 0,
            local_base,
            parent: None,
        })];
        for (k, call) in calls.iter().enumerate() {
            if let Entry::Call { site, function, .. } = call {
                let (offset, local_base) = place(k + 1);
                let parent = nodes.last().map(|n| (n.clone(), *site));
                nodes.push(Rc::new(Node {
                    offset,
                    function: *function,
                    local_base,
                    parent,
                }));
            }
        }
        let mut groups = Vec::new();
        let mut add = |pc: u32, mask: u32, node: Option<&Rc<Node>>| {
            if let (Some(node), true) = (node, mask != 0) {
                groups.push(Group {
                    mask,
                    pc,
                    node: node.clone(),
                    state: State::Ready,
                    parked: false,
                });
            }
        };
        let mut seen = w.mask | w.dead;
        add(w.pc, w.mask, nodes.last());
        for e in w.stack.iter().rev() {
            match e {
                Entry::Lanes { pc, mask, .. } => {
                    add(*pc, mask & !seen, nodes.last());
                    seen |= mask;
                }
                Entry::Call { mask, .. } => {
                    seen |= mask;
                    nodes.pop();
                }
            }
        }
        let own = program.functions.get(w.function as usize);
        Threads {
            groups,
            current: 0,
            free: Vec::new(),
            top: w.frame + own.map_or(0, |f| f.frame_bytes as usize),
            force: false,
        }
    }

    /// Lets a group that waits for lanes of its warp go on without them: PTX leaves undefined what
    /// happens where they never come. False if there is none.
    pub fn force(&mut self) -> bool {
        let found = self.groups.iter_mut().find(|g| g.state == State::Sync);
        let Some(g) = found else { return false };
        g.state = State::Ready;
        self.force = true;
        true
    }

    /// The running group waits at a barrier of the block.
    pub fn block(&mut self, number: u32, pc: u32) {
        if let Some(g) = self.groups.get_mut(self.current) {
            g.state = State::Barrier(number, pc);
        }
    }

    /// Lets the groups go on that wait at a barrier; gives their lanes, frames and the operation.
    pub fn release(&mut self, number: u32) -> Vec<(u32, usize, u32)> {
        let mut list = Vec::new();
        for g in &mut self.groups {
            if let State::Barrier(n, pc) = g.state
                && n == number
            {
                g.state = State::Ready;
                list.push((g.mask, g.node.offset, pc));
            }
        }
        list
    }

    /// Chooses the group to run: of those that do not stand back, the one that is furthest behind.
    fn pick(&mut self) -> Option<usize> {
        let ready = |parked: bool| {
            let list = self.groups.iter().enumerate();
            list.filter(|(_, g)| g.state == State::Ready && g.parked == parked)
                .min_by_key(|(_, g)| g.pc)
                .map(|(k, _)| k)
        };
        ready(false).or_else(|| ready(true))
    }

    /// The next group in order, so that none waits for ever.
    fn rotate(&mut self) {
        self.groups.iter_mut().for_each(|g| g.parked = false);
        if self.current < self.groups.len() {
            // What has run stands back until the others have run.
            if let Some(g) = self.groups.get_mut(self.current) {
                g.parked = true;
            }
            let own = self.groups.remove(self.current);
            self.groups.push(own);
        }
    }

    fn take_frame(&mut self, bytes: usize, limit: usize) -> Option<usize> {
        if let Some(k) = self.free.iter().position(|f| f.1 == bytes) {
            return Some(self.free.swap_remove(k).0);
        }
        let at = self.top;
        (at + bytes <= limit).then(|| {
            self.top += bytes;
            at
        })
    }
}

/// Runs the groups of a warp until it stops.
pub fn run(w: &mut Warp, program: &Program, abort: &AtomicBool) -> Stop {
    let Some(mut t) = w.threads.take() else {
        return raise(w, w.pc, FaultKind::BadCall, 0);
    };
    let stop = turns(w, &mut t, program, abort);
    w.threads = Some(t);
    stop
}

/// Most groups that run in a turn of their warp, one after another.
const MAX_SWITCHES: u32 = 4096;

/// What a group's run ended with.
enum End {
    /// Another group is to run.
    Switch,
    /// Its turn is over.
    Turn,
    /// All its lanes have ended.
    Gone,
    Stop(Stop),
}

fn turns(w: &mut Warp, t: &mut Threads, program: &Program, abort: &AtomicBool) -> Stop {
    let mut rounds = 64u32;
    // Lanes that wait for each other in a loop use up no turns of groups.
    let mut switches = MAX_SWITCHES;
    loop {
        if abort.load(Ordering::Relaxed) {
            return Stop::Aborted;
        }
        if switches == 0 {
            return Stop::Turn;
        }
        switches -= 1;
        let Some(k) = t.pick() else {
            if t.groups.is_empty() {
                return Stop::Done;
            }
            let at_barrier = |g: &Group| matches!(g.state, State::Barrier(..));
            if t.groups.iter().any(at_barrier) || !t.force() {
                return Stop::Blocked;
            }
            continue;
        };
        t.current = k;
        enter(w, t, k);
        let end = group(w, t, program, abort);
        if let Some(g) = t.groups.get_mut(t.current) {
            (g.pc, g.mask) = (w.pc, w.mask);
        }
        match end {
            End::Switch => {}
            End::Turn => {
                t.rotate();
                rounds -= 1;
                if rounds == 0 {
                    return Stop::Turn;
                }
            }
            End::Gone => {
                t.groups.remove(t.current);
                // What waited for these lanes may go on.
                for g in t.groups.iter_mut().filter(|g| g.state == State::Sync) {
                    g.state = State::Ready;
                }
                return if t.groups.is_empty() {
                    Stop::Done
                } else {
                    Stop::LanesEnded
                };
            }
            End::Stop(stop) => return stop,
        }
    }
}

/// Makes a group the one that runs.
fn enter(w: &mut Warp, t: &Threads, k: usize) {
    if let Some(g) = t.groups.get(k) {
        (w.mask, w.pc) = (g.mask, g.pc);
        (w.frame, w.function, w.local_base) = (g.node.offset, g.node.function, g.node.local_base);
    }
}

/// Adds a group beside the running one.
fn fork(t: &mut Threads, mask: u32, pc: u32) {
    if let Some(g) = t.groups.get(t.current) {
        let node = g.node.clone();
        t.groups.push(Group {
            mask,
            pc,
            node,
            state: State::Ready,
            parked: false,
        });
    }
}

/// Takes the lanes of other groups that stand in the state given at the same place.
fn join(w: &mut Warp, t: &mut Threads, pc: u32, state: State) {
    let Some(node) = t.groups.get(t.current).map(|g| g.node.clone()) else {
        return;
    };
    let own = t.current;
    let mut lanes = 0;
    let mut k = 0;
    let mut before = 0;
    t.groups.retain(|g| {
        let other = k != own && g.pc == pc && g.state == state && Rc::ptr_eq(&g.node, &node);
        if other {
            lanes |= g.mask;
            before += usize::from(k < own);
        }
        k += 1;
        !other
    });
    t.current -= before;
    w.mask |= lanes;
    if let Some(g) = t.groups.get_mut(t.current) {
        g.mask = w.mask;
    }
}

/// Runs the current group; leaves its place in `w.pc`.
fn group(w: &mut Warp, t: &mut Threads, program: &Program, abort: &AtomicBool) -> End {
    let insns: &[Insn] = &program.insns;
    let mut pc = w.pc;
    let mut f = w.registers.wrapping_add(w.frame);
    let mut left = GROUP_TURN;
    loop {
        let Some(&i) = insns.get(pc as usize) else {
            return End::Stop(raise(w, pc.saturating_sub(1), FaultKind::BadCall, 0));
        };
        let at = pc;
        pc += 1;
        macro_rules! go {
            ($target:expr) => {{
                let target = $target;
                if target < pc {
                    left -= 1;
                    if left == 0 {
                        w.pc = target;
                        return End::Turn;
                    }
                }
                pc = target;
            }};
        }
        match i.kind {
            Kind::Plain | Kind::Guard => {
                let mut at = at;
                let mut op = i;
                if i.kind == Kind::Guard {
                    let p = mask_at(f, i.s[0]);
                    let m = w.mask & if i.x == 1 { !p } else { p };
                    let Some(&next) = insns.get(pc as usize) else {
                        continue;
                    };
                    (at, op) = (pc, next);
                    pc += 1;
                    if m == 0 {
                        continue;
                    }
                    if m != w.mask {
                        // The others go on behind the operation.
                        fork(t, w.mask & !m, pc);
                        w.mask = m;
                        if let Some(g) = t.groups.get_mut(t.current) {
                            g.mask = m;
                        }
                    }
                }
                w.pc = at;
                // SAFETY: `op` was emitted for the function whose frame `f` is.
                match unsafe { (op.run)(f, &op, w) } {
                    0 => {}
                    EVENT_SPLIT | EVENT_ALIGNED => {
                        join(w, t, at, State::Sync);
                        let forced = std::mem::take(&mut t.force);
                        let (mask, dead) = (w.mask, w.dead);
                        if forced {
                            // The lanes that are missing count as gone for this one operation.
                            w.dead = !w.mask;
                        }
                        // SAFETY: as above; all lanes of the mask stand at `op` in this frame.
                        let event = unsafe { (op.run)(f, &op, w) };
                        (w.mask, w.dead) = (mask, dead);
                        match event {
                            0 => {}
                            EVENT_SPLIT | EVENT_ALIGNED => {
                                if let Some(g) = t.groups.get_mut(t.current) {
                                    (g.state, g.pc, g.mask) = (State::Sync, at, w.mask);
                                }
                                w.pc = at;
                                if event == EVENT_SPLIT {
                                    exchange(w, t, program, at);
                                }
                                return End::Switch;
                            }
                            _ => {
                                w.fault_pc = at;
                                return End::Stop(Stop::Fault);
                            }
                        }
                    }
                    _ => {
                        w.fault_pc = at;
                        return End::Stop(Stop::Fault);
                    }
                }
            }
            // The operations that it stands for follow.
            Kind::Fused => {}
            Kind::Jump => go!(i.d[0]),
            Kind::Branch => {
                let p = mask_at(f, i.s[0]);
                let taken = w.mask & if i.x == 1 { !p } else { p };
                if taken != 0 && taken != w.mask {
                    fork(t, w.mask & !taken, i.d[1]);
                    w.mask = taken;
                }
                go!(if taken != 0 { i.d[0] } else { i.d[1] });
            }
            Kind::Join => {
                join(w, t, at, State::Ready);
                let own = t.current;
                let behind =
                    t.groups.iter().enumerate().any(|(k, g)| {
                        k != own && g.state == State::Ready && !g.parked && g.pc < at
                    });
                if let Some(g) = t.groups.get_mut(own)
                    && behind
                    && !g.parked
                {
                    g.parked = true;
                    w.pc = at;
                    return End::Switch;
                }
                if let Some(g) = t.groups.get_mut(own) {
                    g.parked = false;
                }
            }
            Kind::Switch => {
                let Some(table) = program.tables.get(i.x as usize).filter(|t| !t.is_empty()) else {
                    return End::Stop(raise(w, at, FaultKind::BadCall, 0));
                };
                let target = |lane: u32| {
                    let index = lane_at(f, i.s[0], lane) as usize;
                    table[index.min(table.len() - 1)]
                };
                let first = target(w.mask.trailing_zeros() & 31);
                let mut rest = w.mask;
                while rest != 0 {
                    let to = target(rest.trailing_zeros() & 31);
                    let same = (0..32).filter(|&l| rest & (1 << l) != 0 && target(l) == to);
                    let lanes = same.fold(0, |m, l| m | 1 << l);
                    rest &= !lanes;
                    if to == first {
                        w.mask = lanes | (w.mask & rest);
                    } else {
                        fork(t, lanes, to);
                        w.mask &= !lanes;
                    }
                }
                go!(first);
            }
            Kind::Call => {
                match call(w, t, program, &i, f, at) {
                    Ok(entry) => pc = entry,
                    Err((kind, addr)) => return End::Stop(raise(w, at, kind, addr)),
                }
                if abort.load(Ordering::Relaxed) {
                    return End::Stop(Stop::Aborted);
                }
                f = w.registers.wrapping_add(w.frame);
                left -= 1;
                if left == 0 {
                    w.pc = pc;
                    return End::Turn;
                }
            }
            Kind::Return => match leave(w, t, program, f) {
                Some(next) => {
                    pc = next;
                    f = w.registers.wrapping_add(w.frame);
                }
                None => {
                    w.dead |= w.mask;
                    return End::Gone;
                }
            },
            Kind::Exit => {
                w.dead |= w.mask;
                return End::Gone;
            }
            Kind::Barrier => {
                w.pc = pc;
                return End::Stop(Stop::Barrier(at));
            }
            Kind::Trap => {
                let kind = if i.x == 1 {
                    FaultKind::Assert
                } else {
                    FaultKind::Trap
                };
                return End::Stop(raise(w, at, kind, 0));
            }
        }
    }
}
