//! Where the elements of a sparse A belong (PTX ISA, "Sparse matrix storage").
//!
//! Of each four neighbours of a row of A two are left out, which are zero. Two bits of metadata say for each of the others which
//! one of the four it is. Neighbours are elements of 16 bits, halves of tf32, bytes, or pairs of 4 bits, so that tf32 has one of each
//! two, and elements of 4 bits come in pairs. Lanes `4 * g ..` hold the metadata of rows `g` and `g + 8`, those of them that the
//! sparsity selector names:
//!
//! * words of 16 bits: a lane has eight of each row, row `g` in the lower half; the next lane has the next eight;
//! * bytes: a lane has sixteen of row `g`, the next lane sixteen of row `g + 8`, and the next two the next sixteen.

use super::portable::ROWS;
use crate::exec::lanes::LANES;
use crate::ir::matrix::{Element, Mma};

/// Most elements of a row that are left.
pub(super) const PACKED: usize = 64;

/// Column of each element that is left, by rows.
#[inline(always)]
pub(super) fn columns(m: &Mma, metadata: &[u32; LANES]) -> [[u8; PACKED]; ROWS] {
    let bits = m.elements[0].bits();
    let selector = m.sparse.unwrap_or(0);
    // What one lane has of a row, and how many lanes have one.
    let (units, step) = if bits < 16 { (16, 2) } else { (8, 1) };
    let parts = m.units() / units;
    let mut out = [[0; PACKED]; ROWS];
    for (row, out) in out.iter_mut().enumerate() {
        let (g, low) = (row as u32 % 8, row as u32 / 8);
        for (k, out) in out.iter_mut().enumerate().take(m.k as usize / 2) {
            let k = k as u32;
            // The unit of an element: its first, or the one that it shares.
            let unit = match m.elements[0] {
                Element::Tf32 => 2 * k,
                Element::S4 | Element::U4 => k / 2,
                _ => k,
            };
            let mut lane = 4 * g + step * (selector * parts + unit / units);
            let mut shift = 2 * (unit % units);
            if bits < 16 {
                lane += low;
            } else {
                shift += 16 * low;
            }
            let index = metadata[lane as usize % LANES] >> shift & 3;
            let place = 4 * (unit / 2) + index;
            *out = match m.elements[0] {
                Element::Tf32 => place / 2,
                Element::S4 | Element::U4 => 2 * place + k % 2,
                _ => place,
            } as u8;
        }
    }
    out
}
