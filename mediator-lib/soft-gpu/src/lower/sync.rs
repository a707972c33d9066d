//! Warp-wide operations and barriers.

use super::builder::{Lower, Res};
use crate::ir::{Alu, BarKind, Class, Op, ReduxOp, ShflMode, Source, V, VoteMode};
use crate::ptx::ast::{Operand, Special};
use crate::ptx::types::Ty;

impl Lower<'_> {
    pub(super) fn sync(&mut self, name: &str) -> Res<()> {
        match name {
            "shfl" => self.shfl(),
            "vote" => self.vote(),
            "match" => self.matching(),
            "redux" => self.redux(),
            "activemask" => {
                let o = self.operand(0)?;
                let d = self.dst(o, Class::W)?;
                self.push(Op::ActiveMask, vec![d], vec![], 0, 0);
                self.settle(o, d, false)
            }
            "elect" => self.elect(),
            "bar" | "barrier" => self.barrier(),
            _ => self.unsupported(),
        }
    }

    fn shfl(&mut self) -> Res<()> {
        let mode = self.mods.iter().find_map(|m| {
            Some(match *m {
                "up" => ShflMode::Up,
                "down" => ShflMode::Down,
                "bfly" => ShflMode::Bfly,
                "idx" => ShflMode::Idx,
                _ => return None,
            })
        });
        let Some(mode) = mode else {
            return self.bad_operands();
        };
        self.copy_guard();
        let mut s = vec![
            self.source(1, Ty::B32)?,
            self.source(2, Ty::B32)?,
            self.source(3, Ty::B32)?,
        ];
        s.extend(self.members(4)?);
        let o = self.operand(0)?;
        let mut d = vec![self.dst(o, Class::W)?];
        if let Operand::Pair(_, p) = o {
            d.push(self.dst(p, Class::P)?);
        }
        self.push(Op::Shfl(mode), d.clone(), s, 0, 0);
        self.settle(o, d[0], false)
    }

    fn vote(&mut self) -> Res<()> {
        let mode = self.mods.iter().find_map(|m| {
            Some(match *m {
                "all" => VoteMode::All,
                "any" => VoteMode::Any,
                "uni" => VoteMode::Uni,
                "ballot" => VoteMode::Ballot,
                _ => return None,
            })
        });
        let Some(mode) = mode else {
            return self.bad_operands();
        };
        let p = self.source(1, Ty::Pred)?;
        let o = self.operand(0)?;
        let d = self.dst(
            o,
            if mode == VoteMode::Ballot {
                Class::W
            } else {
                Class::P
            },
        )?;
        let mut s = vec![p];
        s.extend(self.members(2)?);
        self.push(Op::Vote(mode), vec![d], s, 0, 0);
        self.settle(o, d, false)
    }

    fn matching(&mut self) -> Res<()> {
        let ty = self.ty()?;
        let all = self.has("all");
        self.copy_guard();
        let v = self.source(1, ty)?;
        let o = self.operand(0)?;
        let mut d = vec![self.dst(o, Class::W)?];
        if let Operand::Pair(_, p) = o {
            d.push(self.dst(p, Class::P)?);
        }
        let mut s = vec![v];
        s.extend(self.members(2)?);
        self.push(Op::Match(all), d.clone(), s, 0, 0);
        self.settle(o, d[0], false)
    }

    fn redux(&mut self) -> Res<()> {
        let ty = self.ty()?;
        if ty.bytes() != 4 || ty.float() {
            return self.unsupported();
        }
        let signed = ty.signed();
        let op = self.mods.iter().find_map(|m| {
            Some(match *m {
                "add" => ReduxOp::Add,
                "min" if signed => ReduxOp::MinS,
                "max" if signed => ReduxOp::MaxS,
                "min" => ReduxOp::Min,
                "max" => ReduxOp::Max,
                "and" => ReduxOp::And,
                "or" => ReduxOp::Or,
                "xor" => ReduxOp::Xor,
                _ => return None,
            })
        });
        let Some(op) = op else {
            return self.unsupported();
        };
        let v = self.source(1, Ty::B32)?;
        let o = self.operand(0)?;
        let d = self.dst(o, Class::W)?;
        let mut s = vec![v];
        s.extend(self.members(2)?);
        self.push(Op::Redux(op), vec![d], s, 0, 0);
        self.settle(o, d, false)
    }

    /// `elect.sync d|p, membermask`: the lowest lane of those that run.
    fn elect(&mut self) -> Res<()> {
        let Operand::Pair(d, p) = self.operand(0)? else {
            return self.bad_operands();
        };
        let members = self.source(1, Ty::B32)?;
        self.copy_guard();
        // The lanes of the mask, once all have come.
        let own = self.imm(Class::P, 1);
        let both = self.tmp(Class::W);
        self.push(
            Op::Vote(VoteMode::Ballot),
            vec![both],
            vec![own, members],
            0,
            0,
        );
        let reversed = self.alu(Alu::Brev32, &[both], 0);
        let leader = self.alu(Alu::Clz32, &[reversed], 0);
        let own = self.constant(Class::W, Source::Special(Special::LaneId));
        let is = self.alu(Alu::EqI32, &[leader, own], 0);
        self.settle(d, leader, false)?;
        self.settle(p, is, false)
    }

    /// The mask of the lanes that take part, of an instruction with `.sync`.
    fn members(&mut self, operand: usize) -> Res<Option<V>> {
        if !self.has("sync") {
            return Ok(None);
        }
        Ok(Some(self.source(operand, Ty::B32)?))
    }

    fn barrier(&mut self) -> Res<()> {
        if self.has("warp") {
            let members = self.source(0, Ty::B32)?;
            self.push(Op::WarpSync, vec![], vec![members], 0, 0);
            return Ok(());
        }
        if self.has("cluster") {
            // Clusters have one block here, whose arrival is complete at once only
            // together with its own barrier.
            if self.has("arrive") {
                return Ok(());
            }
            let after = self.guard_by_branch();
            let zero = self.imm(Class::W, 0);
            self.push(Op::Bar(BarKind::Sync), vec![], vec![zero], 0, 0);
            self.resume(after);
            return Ok(());
        }
        let red = self.has("red");
        let kind = match () {
            () if self.has("arrive") => BarKind::Arrive,
            () if red && self.has("popc") => BarKind::RedPopc,
            () if red && self.has("and") => BarKind::RedAnd,
            () if red && self.has("or") => BarKind::RedOr,
            () if red => return self.bad_operands(),
            () => BarKind::Sync,
        };
        let after = self.guard_by_branch();
        let first = usize::from(red);
        let n = self.count() - first.min(self.count());
        let mut s = Vec::new();
        if red {
            // d, a{, b}, p
            let o = self.operand(0)?;
            let p = self.src(self.operand(self.count() - 1)?, Ty::Pred)?;
            for k in 1..self.count() - 1 {
                s.push(self.source(k, Ty::B32)?);
            }
            s.push(p);
            let d = self.dst(
                o,
                if kind == BarKind::RedPopc {
                    Class::W
                } else {
                    Class::P
                },
            )?;
            self.push(Op::Bar(kind), vec![d], s, 0, 0);
            self.settle(o, d, false)?;
        } else {
            if n == 0 {
                return self.bad_operands();
            }
            for k in 0..n {
                s.push(self.source(k, Ty::B32)?);
            }
            self.push(Op::Bar(kind), vec![], s, 0, 0);
        }
        self.resume(after);
        Ok(())
    }
}
