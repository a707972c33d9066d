//! Memory that is fetched ahead of its use: a warp's loads are far apart in time, and the processor sees
//! their pattern only where it is small.

use std::mem::offset_of;

use super::access::moved;
use super::asm::{Asm, Cc, G, Mem, R12, RDX};
use super::compile::Compiler;
use super::runtime::JitRange;
/// How far ahead memory is fetched that a warp reads once, in bytes: what sixteen warps read of a word for each
/// thread. It gained a third in a kernel that streams; half of it, a quarter.
const STREAM_BYTES: i32 = 2048;

/// How many iterations of a loop ahead memory is fetched, as a power of two: a set of the processor's first
/// cache has room for the lines of eight where they are 4 KiB apart or a multiple.
const ITERATIONS_LOG: u8 = 3;

/// Allocations below this, in bytes, are in the processor's second cache before long. Fetching ahead from there
/// took a quarter of the speed of a product of small matrices.
pub(super) const SMALL_BYTES: u64 = 2 << 20;

/// Distances up to here, in bytes, are the processor's own affair: it follows them inside of a page.
const NEAR: i32 = 2048;

/// Bytes of a cache line.
const LINE: i32 = 64;

/// Fetches what the next warps and blocks read behind the memory of both halves.
pub(super) fn stream(a: &mut Asm, halves: [Mem; 2]) {
    for m in halves {
        a.prefetch(moved(m, STREAM_BYTES));
    }
}

impl Compiler<'_> {
    /// Fetches what the load will read some iterations of its loop later, if its address goes on changing as it
    /// did since the last one: `lines` of each half, whose addresses are `halves` plus `offset` (the host's and
    /// the device's are the same, see [`crate::addresses`]). Only inside of the allocation of the group at
    /// `group`, so that a kernel cannot ask for memory of others. Changes RDX.
    pub(super) fn iterations(&mut self, group: i32, halves: [G; 2], offset: i32, lines: i32) {
        let field = |offset: usize| Mem::At(R12, group + offset as i32);
        let base = field(offset_of!(JitRange, base));
        let starts = field(offset_of!(JitRange, starts));
        let last = field(offset_of!(JitRange, last));
        let (large, done) = (self.a.label(), self.a.label());
        self.a.cmp_mem64(starts, 0);
        self.a.branch(Cc::Nz, large);
        self.a.bind(done);
        self.stubs.push(Box::new(move |a, _| {
            a.bind(large);
            a.mov(RDX, halves[0]);
            a.sub(RDX, last);
            a.store64(last, halves[0]);
            a.add_imm(RDX, NEAR);
            a.cmp_imm(RDX, 2 * NEAR);
            a.branch(Cc::Be, done);
            a.shl(RDX, ITERATIONS_LOG);
            a.add_imm(RDX, -(NEAR << ITERATIONS_LOG));
            for (h, half) in halves.into_iter().enumerate() {
                a.add(RDX, half);
                if h > 0 {
                    a.sub(RDX, halves[h - 1]);
                }
                a.sub(RDX, base);
                a.cmp64(RDX, starts);
                a.branch(Cc::Ae, done);
                a.add(RDX, base);
                for line in 0..lines {
                    a.prefetch(Mem::At(RDX, offset + LINE * line));
                }
            }
            a.jump(done);
        }));
    }
}
