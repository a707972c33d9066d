//! Which vector register holds which cache line (or pair slot) of the frame.
//!
//! A 32-bit vector slot is two lines, one for each half of the warp; a 64-bit one is four;
//! a pair slot fits a 128-bit register. Values stay in registers inside a segment and go to the
//! frame when they are live at its end, when a handler is called, or when room is needed.

use super::asm::{Asm, K, Len, Mem, RBX, Z, op};

/// Registers that hold values; the others are scratch.
pub const POOL: usize = 28;
/// Scratch registers.
pub const T0: Z = Z(28);
pub const T1: Z = Z(29);
pub const T2: Z = Z(30);
pub const T3: Z = Z(31);

/// The NaN that f32 operations return.
pub const CANON: u32 = 0x7fff_ffff;

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Byte offset in the frame.
    pub key: u32,
    /// 16 bytes, not 64.
    pub pair: bool,
    /// The frame has an older value.
    pub dirty: bool,
    /// NaNs in it may have another payload than the interpreter's; put right when it is
    /// stored or used as an integer.
    pub nan: bool,
    /// When it was used last.
    pub used: u32,
}

/// A list of what registers hold.
pub type Snapshot = Vec<(u8, Held)>;

/// The registers.
#[derive(Clone, Debug)]
pub struct Regs {
    pub held: [Option<Held>; POOL],
    /// Number of the present step: registers used in it are not given away.
    pub now: u32,
    /// Keys that were loaded from the frame, in order.
    pub loaded: Vec<(u32, bool)>,
    /// Keys that were written, and whether a NaN may have another payload.
    pub written: Vec<(u32, bool)>,
    /// Keys whose value was used as it is (a NaN with its payload) before it was written.
    pub observed: Vec<u32>,
    /// Whether a value had to make room.
    pub evicted: bool,
}

impl Default for Regs {
    fn default() -> Regs {
        Regs {
            held: [None; POOL],
            now: 1,
            loaded: Vec::new(),
            written: Vec::new(),
            observed: Vec::new(),
            evicted: false,
        }
    }
}

fn len(pair: bool) -> Len {
    if pair { Len::X } else { Len::Z }
}

/// A frame slot.
pub fn frame(key: u32) -> Mem {
    Mem::At(RBX, key as i32)
}

/// Loads a line or pair.
pub fn load(a: &mut Asm, r: Z, key: u32, pair: bool) {
    a.evex(
        op::VMOVDQA32,
        len(pair),
        r.0,
        0,
        frame(key),
        <_>::default(),
        None,
    );
}

/// Puts NaNs of `from` right in `to`. Changes k7.
pub fn canonical(a: &mut Asm, to: Z, from: Z, pair: bool) {
    let canon = a.word(CANON);
    a.cmp(op::VCMPPS, len(pair), K(7), from, from, 3);
    let dec = super::asm::Dec {
        k: 7,
        zero: false,
        bcast: true,
    };
    a.evex(op::VPBLENDMD, len(pair), to.0, from.0, canon, dec, None);
}

/// Stores what is dirty; registers keep their values. Changes T3 and k7.
pub fn flush(a: &mut Asm, held: &[(u8, Held)]) {
    for (r, h) in held {
        if h.dirty {
            let mut from = Z(*r);
            if h.nan {
                canonical(a, T3, from, h.pair);
                from = T3;
            }
            a.evex(
                op::VMOVDQA32_ST,
                len(h.pair),
                from.0,
                0,
                frame(h.key),
                <_>::default(),
                None,
            );
        }
    }
}

/// Loads all again.
pub fn reload(a: &mut Asm, held: &[(u8, Held)]) {
    for (r, h) in held {
        load(a, Z(*r), h.key, h.pair);
    }
}

impl Regs {
    /// Begins a step: registers used before may be given away.
    pub fn step(&mut self) {
        self.now += 1;
    }

    /// What is held.
    pub fn snapshot(&self) -> Snapshot {
        self.held
            .iter()
            .enumerate()
            .filter_map(|(r, h)| h.map(|h| (r as u8, h)))
            .collect()
    }

    /// Takes over a list of what is held.
    pub fn restore(&mut self, s: &[(u8, Held)]) {
        self.held = [None; POOL];
        for (r, h) in s {
            if let Some(slot) = self.held.get_mut(usize::from(*r)) {
                *slot = Some(*h);
            }
        }
    }

    fn find(&self, key: u32) -> Option<usize> {
        self.held
            .iter()
            .position(|h| h.is_some_and(|h| h.key == key))
    }

    /// Whether a key is in a register.
    pub fn holds(&self, key: u32) -> bool {
        self.find(key).is_some()
    }

    /// Forgets a key whose value nobody needs.
    pub fn drop_key(&mut self, key: u32) {
        if let Some(r) = self.find(key) {
            self.held[r] = None;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.held = [None; POOL];
    }

    fn take(&mut self, a: &mut Asm) -> usize {
        if let Some(r) = self.held.iter().position(Option::is_none) {
            return r;
        }
        let oldest = (0..POOL)
            .filter_map(|r| self.held[r].map(|h| (h.used, h.dirty, r)))
            .filter(|(used, ..)| *used != self.now)
            .min();
        // A step uses fewer registers than there are.
        let r = oldest.map_or(0, |(.., r)| r);
        self.evicted = true;
        if let Some(h) = self.held[r] {
            flush(a, &[(r as u8, h)]);
        }
        self.held[r] = None;
        r
    }

    /// The register that holds a line or pair, loaded if need be. `exact`: NaNs are put right.
    pub fn get(&mut self, a: &mut Asm, key: u32, pair: bool, exact: bool) -> Z {
        if exact {
            self.observe(key);
        }
        let r = match self.find(key) {
            Some(r) => r,
            None => {
                let r = self.take(a);
                load(a, Z(r as u8), key, pair);
                self.loaded.push((key, pair));
                self.held[r] = Some(Held {
                    key,
                    pair,
                    dirty: false,
                    nan: false,
                    used: self.now,
                });
                r
            }
        };
        if let Some(h) = &mut self.held[r] {
            h.used = self.now;
            if exact && h.nan {
                h.nan = false;
                canonical(a, Z(r as u8), Z(r as u8), pair);
            }
        }
        Z(r as u8)
    }

    /// Notes that a key's value is used as it is, NaNs included.
    pub fn observe(&mut self, key: u32) {
        if !self.written.iter().any(|w| w.0 == key) && !self.observed.contains(&key) {
            self.observed.push(key);
        }
    }

    /// Whether the value of a key may have other NaNs.
    pub fn lazy(&self, key: u32) -> bool {
        self.find(key)
            .and_then(|r| self.held[r])
            .is_some_and(|h| h.nan)
    }

    /// The register for a new value of a key: its old one, if it is held.
    pub fn def(&mut self, a: &mut Asm, key: u32, pair: bool, nan: bool) -> Z {
        let r = match self.find(key) {
            Some(r) => r,
            None => self.take(a),
        };
        self.written.push((key, nan));
        self.held[r] = Some(Held {
            key,
            pair,
            dirty: true,
            nan,
            used: self.now,
        });
        Z(r as u8)
    }

    /// Gives the register of a value that nobody needs any more to another one, of which it is a part.
    pub fn turn_into(&mut self, from: u32, to: u32, nan: bool) -> Option<Z> {
        if self.find(to).is_some() {
            return None;
        }
        let r = self.find(from)?;
        self.written.push((to, nan));
        self.held[r] = Some(Held {
            key: to,
            pair: false,
            dirty: true,
            nan,
            used: self.now,
        });
        Some(Z(r as u8))
    }

    /// Moves values so that `want` is held, everything else stored or forgotten.
    pub fn become_like(&mut self, a: &mut Asm, want: &[(u8, Held)]) {
        // What is not wanted goes to the frame.
        for r in 0..POOL {
            if let Some(h) = self.held[r]
                && !want.iter().any(|(_, w)| w.key == h.key)
            {
                flush(a, &[(r as u8, h)]);
                self.held[r] = None;
            }
        }
        let mut moves: Vec<(u8, u8, Held)> = Vec::new();
        for (r, w) in want {
            if let Some(at) = self.find(w.key)
                && let Some(h) = self.held[at]
            {
                // A value the target state holds as clean or with right NaNs must be so.
                let right = Held {
                    nan: h.nan && w.nan,
                    ..h
                };
                if h.nan && !w.nan {
                    canonical(a, Z(at as u8), Z(at as u8), h.pair);
                }
                if h.dirty && !w.dirty {
                    flush(a, &[(at as u8, right)]);
                }
                if at as u8 != *r {
                    moves.push((at as u8, *r, *w));
                }
            }
        }
        let missing: Vec<_> = want
            .iter()
            .filter(|(_, w)| !self.holds(w.key))
            .copied()
            .collect();
        let copy = |a: &mut Asm, from: u8, to: u8| a.v2(op::VMOVDQA32, Z(to), Z(from));
        while !moves.is_empty() {
            match moves.iter().position(|m| moves.iter().all(|o| o.0 != m.1)) {
                Some(k) => {
                    let (from, to, _) = moves.swap_remove(k);
                    copy(a, from, to);
                }
                None => {
                    // Only cycles are left: one value steps aside.
                    let (from, ..) = moves[0];
                    copy(a, from, T2.0);
                    moves
                        .iter_mut()
                        .filter(|m| m.0 == from)
                        .for_each(|m| m.0 = T2.0);
                }
            }
        }
        reload(a, &missing);
        self.restore(want);
    }
}
