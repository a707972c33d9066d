//! Address translation: every access of a kernel passes through here.
#![allow(unsafe_code)] // forms host pointers from checked device addresses

use super::insn::{EVENT_FAULT, Insn};
use super::warp::{FaultKind, LaneFault, Warp};
use crate::ir::windows::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, WINDOW_BYTES};
use crate::memory::Range;
use crate::ptx::types::Space;

/// Space numbers in [`Insn::small`], and flags beside them.
pub mod small {
    #![allow(missing_docs)]
    pub const GENERIC: u8 = 0;
    pub const GLOBAL: u8 = 1;
    pub const CONST: u8 = 2;
    pub const SHARED: u8 = 3;
    pub const LOCAL: u8 = 4;
    pub const PARAM: u8 = 5;
    pub const SPACE: u8 = 7;
    /// Loads sign-extend.
    pub const SIGNED: u8 = 8;
    /// The address register has 32 bits.
    pub const ADDR32: u8 = 16;
    /// The address is the same in both halves.
    pub const UNIFORM: u8 = 32;
}

/// Number of a space.
pub fn space_number(s: Space) -> u8 {
    match s {
        Space::Generic => small::GENERIC,
        Space::Global => small::GLOBAL,
        Space::Const => small::CONST,
        Space::Shared => small::SHARED,
        Space::Local => small::LOCAL,
        Space::Param => small::PARAM,
    }
}

pub(super) fn space_name(n: u8) -> &'static str {
    [
        "generic", "global", "const", "shared", "local", "param", "?", "?",
    ][usize::from(n & small::SPACE)]
}

/// The allocation that an operation hit last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cache {
    /// First device address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What a warp's accesses may reach.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Device address plus this is the host address.
    pub delta: usize,
    /// Live allocations, sorted.
    pub ranges: *const Range,
    /// Number of them.
    pub range_count: usize,
    /// Range caches of the worker, one per memory operation of the program.
    pub caches: *mut Cache,
    /// Number of them.
    pub cache_count: usize,
    /// Shared memory of the block.
    pub shared: *mut u8,
    /// Bytes of it.
    pub shared_bytes: u64,
    /// Local memory of the warp: lane after lane.
    pub local: *mut u8,
    /// Bytes per lane.
    pub local_bytes: u64,
    /// Kernel parameters.
    pub params: *const u8,
    /// Bytes of them.
    pub param_bytes: u64,
}

impl Memory {
    /// Whether `bytes` at `addr` lie in the cached allocation.
    #[inline(always)]
    pub fn hit(&self, cache: u32, addr: u64, bytes: u64) -> bool {
        debug_assert!((cache as usize) < self.cache_count);
        // SAFETY: the emitter numbers caches below `cache_count`, the length of the array
        // the worker owns while it runs this warp.
        let c = unsafe { *self.caches.add(cache as usize) };
        let offset = addr.wrapping_sub(c.base);
        offset < c.bytes && bytes <= c.bytes - offset
    }

    /// Whether `bytes` at `addr` lie in one allocation that the operation may use; fills the cache,
    /// which belongs to one operation: what it holds is allowed for its reads or its writes.
    #[inline(always)]
    pub fn device(&self, cache: u32, addr: u64, bytes: u64, write: bool) -> bool {
        self.hit(cache, addr, bytes) || self.device_miss(cache, addr, bytes, write)
    }

    /// The allocation that holds `bytes` at `addr`, and may be written where `write`: its base and
    /// size.
    pub fn allocation(&self, addr: u64, bytes: u64, write: bool) -> Option<(u64, u64)> {
        // SAFETY: the launch keeps the snapshot of `range_count` ranges alive.
        let ranges = unsafe { std::slice::from_raw_parts(self.ranges, self.range_count) };
        let at = ranges.partition_point(|r| r.base <= addr);
        let r = ranges.get(at.checked_sub(1)?)?;
        let offset = addr - r.base;
        let inside = offset < r.bytes && bytes <= r.bytes - offset;
        (inside && (r.writable || !write)).then_some((r.base, r.bytes))
    }

    #[cold]
    fn device_miss(&self, cache: u32, addr: u64, bytes: u64, write: bool) -> bool {
        let Some((base, len)) = self.allocation(addr, bytes, write) else {
            return false;
        };
        // SAFETY: as in `hit`.
        unsafe { *self.caches.add(cache as usize) = Cache { base, bytes: len } };
        true
    }

    /// Host address of a checked device address.
    #[inline(always)]
    pub fn host(&self, addr: u64) -> *mut u8 {
        (addr as usize).wrapping_add(self.delta) as *mut u8
    }

    /// A kernel parameter, extended to 64 bits; 0 outside the block.
    pub fn param(&self, offset: u32, bytes: u8, signed: bool) -> u64 {
        let (offset, n) = (u64::from(offset), u64::from(bytes.min(8)));
        if offset + n > self.param_bytes {
            return 0;
        }
        let mut raw = [0u8; 8];
        // SAFETY: `offset + n <= param_bytes`, the length of the block the launch keeps
        // alive, and `n <= 8`, the length of `raw`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.params.add(offset as usize),
                raw.as_mut_ptr(),
                n as usize,
            );
        }
        let v = u64::from_le_bytes(raw);
        let unused = 64 - 8 * n as u32;
        if signed && unused < 64 {
            ((v << unused) as i64 >> unused) as u64
        } else {
            v
        }
    }

    /// Translates one access of one lane.
    pub fn translate(
        &self,
        space: u8,
        cache: u32,
        lane: u32,
        addr: u64,
        bytes: u64,
        write: bool,
    ) -> Result<*mut u8, FaultKind> {
        if addr & (bytes - 1) != 0 {
            return Err(FaultKind::Misaligned);
        }
        let (space, addr) = match space & small::SPACE {
            small::GENERIC | small::PARAM => {
                if addr.wrapping_sub(SHARED_WINDOW) < WINDOW_BYTES {
                    (small::SHARED, addr - SHARED_WINDOW)
                } else if addr.wrapping_sub(LOCAL_WINDOW) < WINDOW_BYTES {
                    (small::LOCAL, addr - LOCAL_WINDOW)
                } else if addr.wrapping_sub(PARAM_WINDOW) < WINDOW_BYTES {
                    (small::PARAM, addr - PARAM_WINDOW)
                } else {
                    (small::GLOBAL, addr)
                }
            }
            s => (s, addr),
        };
        let inside = |limit: u64| addr < limit && bytes <= limit - addr;
        match space {
            small::SHARED if inside(self.shared_bytes) => {
                Ok(self.shared.wrapping_add(addr as usize))
            }
            small::LOCAL if inside(self.local_bytes) => Ok(self
                .local
                .wrapping_add(lane as usize * self.local_bytes as usize + addr as usize)),
            small::PARAM if !write && inside(self.param_bytes) => {
                Ok(self.params.wrapping_add(addr as usize).cast_mut())
            }
            small::GLOBAL | small::CONST if self.device(cache, addr, bytes, write) => {
                Ok(self.host(addr))
            }
            _ => Err(FaultKind::Illegal),
        }
    }
}

/// Records a fault.
#[cold]
pub(super) fn fault(
    w: &mut Warp,
    i: &Insn,
    kind: FaultKind,
    lane: u32,
    addr: u64,
    bytes: u64,
    write: bool,
) -> u32 {
    w.fault = Some(LaneFault {
        kind,
        lane,
        addr,
        bytes: bytes as u32,
        space: space_name(i.small),
        write,
    });
    EVENT_FAULT
}
