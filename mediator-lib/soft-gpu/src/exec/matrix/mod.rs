//! Matrix operations of a warp.
//!
//! `mma` computes every element of D as `c`, then `fma(a[k], b[k], …)` for rising `k`, each in
//! f32 to nearest even (f64 for f64): products are exact, sums are rounded one by one, and an f16
//! result is rounded once more at the end. NVIDIA leaves the order and the precision
//! of the sums open. All forms of execution keep this order, so they agree to the bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod rows;
mod sparse;
mod wmma;

pub use rows::{ldmatrix, movmatrix, stmatrix};
pub use wmma::{wmma_load, wmma_store};

use super::alu::Isa;
use super::insn::Handler;
use crate::ir::matrix::{Fragment, MAX_FRAGMENT, Mma};

/// What a [`Tile`] is.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// Of `mma`.
    Mma(Mma),
    /// Of `wmma.load` and `wmma.store`.
    Fragment(Fragment),
}

/// Slots of a matrix operation, which has more than an [`super::insn::Insn`] holds.
#[derive(Clone, Debug)]
pub struct Tile {
    /// Of which operation.
    pub what: What,
    /// Result registers, or those of a fragment.
    pub d: [u32; MAX_FRAGMENT],
    /// Registers of A.
    pub a: [u32; MAX_FRAGMENT],
    /// Registers of B.
    pub b: [u32; MAX_FRAGMENT],
    /// Registers of C.
    pub c: [u32; MAX_FRAGMENT],
    /// Metadata of a sparse A.
    pub metadata: u32,
}

/// The first slots of a list, unused ones zero.
pub fn slots(list: impl IntoIterator<Item = u32>) -> [u32; MAX_FRAGMENT] {
    let mut out = [0; MAX_FRAGMENT];
    for (o, s) in out.iter_mut().zip(list) {
        *o = s;
    }
    out
}

/// The handler of `mma`.
pub fn mma(m: &Mma, isa: Isa) -> Handler {
    #[cfg(target_arch = "x86_64")]
    if m.sparse.is_none() {
        let fast = match isa {
            Isa::Avx512 => avx512::handler(m),
            Isa::Avx2 => avx2::handler(m),
            Isa::Baseline => None,
        };
        if let Some(h) = fast {
            return h;
        }
    }
    portable::handler(m, isa)
}
