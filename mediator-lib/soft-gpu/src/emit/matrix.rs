//! Emits matrix operations and asynchronous copies.

use super::function::{BLANK, Emitter};
use crate::exec::copy;
use crate::exec::insn::{Handler, Insn};
use crate::exec::matrix::{self, Tile, What, slots};
use crate::exec::memory::{small, space_number};
use crate::ir::matrix::Mma;
use crate::ir::{Class, Inst};
use crate::ptx::types::Space;

impl Emitter<'_> {
    fn tile(&mut self, tile: Tile) -> u32 {
        self.p.tiles.push(tile);
        self.p.tiles.len() as u32 - 1
    }

    pub(super) fn mma(&mut self, i: &Inst, m: Mma) {
        let [na, nb, nc, _] = m.registers();
        let (a, rest) = i.s.split_at(na.min(i.s.len()));
        let (b, rest) = rest.split_at(nb.min(rest.len()));
        let (c, metadata) = rest.split_at(nc.min(rest.len()));
        let list = |l: &[u32]| slots(l.iter().map(|&v| self.vec(v)));
        let tile = Tile {
            what: What::Mma(m),
            d: list(&i.d),
            a: list(a),
            b: list(b),
            c: list(c),
            metadata: list(metadata)[0],
        };
        let masked = self.masked(i);
        let x = self.tile(tile);
        self.plain(
            i,
            Insn {
                run: matrix::mma(&m, self.isa),
                x,
                masked,
                ..BLANK
            },
        );
    }

    /// A memory operation whose address is a vector: `s[0]`, and a stride in `s[1]`.
    pub(super) fn matrix_memory(
        &mut self,
        i: &Inst,
        run: Handler,
        space: Space,
        regs: &[u32],
        what: Option<What>,
    ) {
        let mut small = space_number(space);
        if self.class(i.s[0]) == Class::W {
            small |= small::ADDR32;
        }
        let list = slots(regs.iter().map(|&v| self.vec(v)));
        let mut s = [self.vec(i.s[0]), 0, 0, 0];
        let mut x = i.x;
        if let Some(what) = what {
            s[1] = self.vec(i.s[1]);
            x = self.tile(Tile {
                what,
                d: list,
                a: [0; 8],
                b: [0; 8],
                c: [0; 8],
                metadata: 0,
            });
        }
        let masked = self.masked(i);
        let cache = self.cache();
        self.plain(
            i,
            Insn {
                run,
                d: [list[0], list[1], list[2], list[3]],
                s,
                x,
                imm: i.imm,
                small,
                cache,
                count: regs.len() as u8,
                masked,
                ..BLANK
            },
        );
    }

    pub(super) fn copy_async(&mut self, i: &Inst, bytes: u8) {
        let mut small = small::SHARED;
        if self.class(i.s[0]) == Class::W {
            small |= small::ADDR32;
        }
        if self.class(i.s[1]) == Class::W {
            small |= copy::SOURCE32;
        }
        let cache = self.cache();
        self.plain(
            i,
            Insn {
                run: copy::handler(bytes),
                s: [self.vec(i.s[0]), self.vec(i.s[1]), self.vec(i.s[2]), 0],
                small,
                cache,
                ..BLANK
            },
        );
    }
}
