//! Handlers of CUDA's device system calls: `vprintf`, `malloc`, `free`, `__assertfail`.
#![allow(unsafe_code)] // frame slots and checked device memory through raw pointers

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::insn::{EVENT_FAULT, Handler, Insn};
use super::lanes::{LANES, Lane};
use super::memory::small;
use super::warp::{FaultKind, LaneFault, Warp};
use crate::ir::SystemCall;
use crate::runtime::{Arguments, DeviceRuntime, format};

/// What `vprintf` returns without a format, and where something is wrong inside (CUDA C++
/// Programming Guide, "Formatted Output").
const NO_FORMAT: u32 = -1i32 as u32;
const INTERNAL: u32 = -2i32 as u32;

/// The handler of a call.
pub fn handler(call: SystemCall) -> Handler {
    match call {
        SystemCall::Printf => vprintf,
        SystemCall::Malloc => malloc,
        SystemCall::Free => free,
        SystemCall::Assert => assert_fail,
    }
}

/// Device memory as one lane reads it.
struct LaneMemory<'a> {
    w: &'a Warp,
    cache: u32,
    lane: u32,
    at: u64,
    fault: Option<(FaultKind, u64, u64)>,
}

impl LaneMemory<'_> {
    fn read(&mut self, at: u64, bytes: u64) -> Option<u64> {
        let m = &self.w.memory;
        match m.translate(small::GENERIC, self.cache, self.lane, at, bytes, false) {
            Ok(p) => {
                let mut raw = [0u8; 8];
                // SAFETY: `translate` checked `bytes` bytes at `p`, and callers pass 1, 4 or 8.
                unsafe { std::ptr::copy_nonoverlapping(p, raw.as_mut_ptr(), bytes as usize) };
                Some(u64::from_le_bytes(raw))
            }
            Err(kind) => {
                self.fault = Some((kind, at, bytes));
                None
            }
        }
    }

    fn text(&mut self, at: u64, max: usize) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < max {
            let c = self.read(at.wrapping_add(out.len() as u64), 1)? as u8;
            if c == 0 {
                break;
            }
            out.push(c);
        }
        Some(out)
    }
}

impl Arguments for LaneMemory<'_> {
    fn next(&mut self, bytes: u64) -> Option<u64> {
        let at = self.at.checked_next_multiple_of(bytes)?;
        self.at = at.wrapping_add(bytes);
        self.read(at, bytes)
    }
    fn string(&mut self, at: u64, max: usize) -> Option<Vec<u8>> {
        self.text(at, max)
    }
}

fn fail(w: &mut Warp, lane: u32, kind: FaultKind, addr: u64, bytes: u64) -> u32 {
    w.fault = Some(LaneFault {
        kind,
        lane,
        addr,
        bytes: bytes as u32,
        space: if bytes == 0 { "" } else { "generic" },
        write: false,
    });
    EVENT_FAULT
}

fn runtime(w: &Warp) -> &'static DeviceRuntime {
    // SAFETY: the launch keeps the runtime alive while its warps run, and the reference does not
    // leave the handler.
    unsafe { &*w.runtime }
}

/// Whether what a warp does is of no use any more: its launch is being aborted, or has used its time.
fn is_ending(w: &Warp) -> bool {
    // SAFETY: the flag belongs to the launch, which its warps do not outlive.
    let aborted = unsafe { &*w.abort }.load(Ordering::Relaxed);
    aborted || w.deadline.is_some_and(|at| Instant::now() >= at)
}

/// One operand of all lanes.
unsafe fn wide(f: *mut u8, i: &Insn, k: usize) -> [u64; LANES] {
    // SAFETY: the emitter gave the operand a 64-bit vector slot in this frame.
    unsafe { u64::load(f.add(i.s[k] as usize)) }
}

unsafe fn vprintf(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller: operands 0 and 1 are 64 bits wide.
    let (formats, blocks) = unsafe { (wide(f, i, 0), wide(f, i, 1)) };
    let runtime = runtime(w);
    let limit = runtime.printf_bytes() as usize;
    let mut results = [0u32; LANES];
    for lane in 0..LANES as u32 {
        let l = lane as usize;
        if w.mask & (1 << lane) == 0 {
            continue;
        }
        if formats[l] == 0 {
            results[l] = NO_FORMAT;
            continue;
        }
        // A text may be as long as the whole FIFO: many of them take longer than anybody waits.
        if is_ending(w) {
            return fail(w, lane, FaultKind::Ended, 0, 0);
        }
        let mut memory = LaneMemory {
            w,
            cache: i.cache,
            lane,
            at: blocks[l],
            fault: None,
        };
        let text = memory.text(formats[l], limit.saturating_add(1));
        let done = text.and_then(|t| format(&t, &mut memory, limit));
        if let Some((kind, addr, bytes)) = memory.fault {
            return fail(w, lane, kind, addr, bytes);
        }
        results[l] = match done {
            Some((text, used)) => {
                if runtime.print(text) {
                    used
                } else {
                    INTERNAL
                }
            }
            None => INTERNAL,
        };
    }
    // SAFETY: the emitter gave the result a vector slot; lanes that do not run keep their value.
    unsafe {
        let slot = f.add(i.d[0] as usize);
        u32::store(slot, u32::blend(u32::load(slot), results, w.mask));
    }
    0
}

unsafe fn malloc(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller: operand 0 is 64 bits wide.
    let sizes = unsafe { wide(f, i, 0) };
    let runtime = runtime(w);
    let mut results = [0u64; LANES];
    for l in 0..LANES {
        if w.mask & (1 << l) != 0 {
            results[l] = runtime.malloc(sizes[l]);
        }
    }
    // SAFETY: the emitter gave the result a 64-bit vector slot; lanes that do not run keep theirs.
    unsafe {
        let slot = f.add(i.d[0] as usize);
        u64::store(slot, u64::blend(u64::load(slot), results, w.mask));
    }
    0
}

unsafe fn free(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller: operand 0 is 64 bits wide.
    let blocks = unsafe { wide(f, i, 0) };
    let runtime = runtime(w);
    for (l, &at) in blocks.iter().enumerate() {
        if w.mask & (1 << l) != 0 && !runtime.free(at) {
            return fail(w, l as u32, FaultKind::Illegal, at, 1);
        }
    }
    0
}

/// Operands: message, file, line, function. Each lane prints, then the launch ends.
unsafe fn assert_fail(f: *mut u8, i: &Insn, w: &mut Warp) -> u32 {
    // SAFETY: forwarded from the caller: the line is 32 bits wide, the others 64.
    let (messages, files, lines, functions) = unsafe {
        (
            wide(f, i, 0),
            wide(f, i, 1),
            u32::load(f.add(i.s[2] as usize)),
            wide(f, i, 3),
        )
    };
    let runtime = runtime(w);
    for lane in 0..LANES as u32 {
        let l = lane as usize;
        if w.mask & (1 << lane) == 0 {
            continue;
        }
        let mut memory = LaneMemory {
            w,
            cache: i.cache,
            lane,
            at: 0,
            fault: None,
        };
        let mut text = |at: u64| {
            let t = if at == 0 {
                None
            } else {
                memory.text(at, MAX_ASSERT_TEXT)
            };
            String::from_utf8_lossy(&t.unwrap_or_default()).into_owned()
        };
        let (message, file, function) = (text(messages[l]), text(files[l]), text(functions[l]));
        let ([bx, by, bz], [tx, ty, tz]) = (w.id.ctaid, w.id.tid(lane));
        // CUDA C++ Programming Guide, "Assertion".
        let line = format!(
            "{file}:{}: {function}: block: [{bx},{by},{bz}], thread: [{tx},{ty},{tz}] Assertion `{message}` failed.\n",
            lines[l]
        );
        runtime.print_assertion(line.as_bytes());
    }
    let lane = w.mask.trailing_zeros() & 31;
    fail(w, lane, FaultKind::Assert, 0, 0)
}

/// Longest file name, function name and expression of an assertion.
const MAX_ASSERT_TEXT: usize = 4096;
