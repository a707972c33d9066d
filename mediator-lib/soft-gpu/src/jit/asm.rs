//! An encoder for the few instructions that the compiler emits: EVEX vector
//! instructions, mask moves, and 64-bit integer code around them (Intel SDM,
//! volume 2, "Instruction Format" and "Intel AVX-512 Encoding").

/// A vector register, 0 to 31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Z(pub u8);
/// A general-purpose register, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct G(pub u8);
/// A mask register, 0 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct K(pub u8);

pub const RAX: G = G(0);
pub const RCX: G = G(1);
pub const RDX: G = G(2);
pub const RBX: G = G(3);
pub const RSP: G = G(4);
pub const RBP: G = G(5);
pub const RSI: G = G(6);
pub const RDI: G = G(7);
pub const R8: G = G(8);
pub const R9: G = G(9);
pub const R12: G = G(12);
pub const R15: G = G(15);

/// A place in the code, bound later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// A constant behind the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Const(usize);

/// A memory operand.
#[derive(Clone, Copy, Debug)]
pub enum Mem {
    /// `[base + disp]`.
    At(G, i32),
    /// `[base + index + disp]` with a vector of 32- or 64-bit indices.
    Vsib(G, Z, i32),
    /// A constant.
    Const(Const),
}

/// The operand that may be memory.
#[derive(Clone, Copy, Debug)]
pub enum Rm {
    /// Vector register.
    Z(Z),
    /// General-purpose register.
    G(G),
    /// Memory.
    M(Mem),
}

impl From<Z> for Rm {
    fn from(z: Z) -> Rm {
        Rm::Z(z)
    }
}
impl From<G> for Rm {
    fn from(g: G) -> Rm {
        Rm::G(g)
    }
}
impl From<Mem> for Rm {
    fn from(m: Mem) -> Rm {
        Rm::M(m)
    }
}

/// Vector length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Len {
    /// 128 bits.
    X,
    /// 512 bits.
    Z,
    /// 512 bits of registers, rounded as said: 0 to nearest even, 1 down, 2 up, 3 to zero.
    Rounded(u8),
}

pub use super::ops as op;
pub use super::ops::Op;

/// Conditions of jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cc {
    /// Above or equal, unsigned.
    Ae = 3,
    /// Below or equal, unsigned.
    Be = 6,
    /// Not zero, not equal.
    Nz = 5,
    /// Zero, equal.
    Z = 4,
}

/// Decorations of an EVEX instruction.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dec {
    /// Write mask; 0: none.
    pub k: u8,
    /// Lanes outside the mask become zero.
    pub zero: bool,
    /// The memory operand is one element for all lanes.
    pub bcast: bool,
}

/// Code in the making.
#[derive(Default)]
pub struct Asm {
    code: Vec<u8>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
    consts: Vec<Vec<u8>>,
    const_uses: Vec<(usize, usize, Const)>,
}

/// A place to return to when an attempt is thrown away.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    code: usize,
    labels: usize,
    jumps: usize,
    const_uses: usize,
}

impl Asm {
    /// The present place.
    pub fn mark(&self) -> Mark {
        Mark {
            code: self.code.len(),
            labels: self.labels.len(),
            jumps: self.jumps.len(),
            const_uses: self.const_uses.len(),
        }
    }

    /// Forgets all that came after `m`. Labels bound since then must not be in use.
    pub fn rewind(&mut self, m: Mark) {
        self.code.truncate(m.code);
        self.labels.truncate(m.labels);
        self.jumps.truncate(m.jumps);
        self.const_uses.truncate(m.const_uses);
    }

    /// A label that is not bound yet.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Binds a label here.
    pub fn bind(&mut self, l: Label) {
        if let Some(slot) = self.labels.get_mut(l.0) {
            *slot = Some(self.code.len());
        }
    }

    /// Where a label was bound.
    pub fn place(&self, l: Label) -> Option<usize> {
        self.labels.get(l.0).copied().flatten()
    }

    /// A constant; equal ones are one.
    pub fn constant(&mut self, bytes: &[u8]) -> Const {
        match self.consts.iter().position(|c| c == bytes) {
            Some(at) => Const(at),
            None => {
                self.consts.push(bytes.to_vec());
                Const(self.consts.len() - 1)
            }
        }
    }

    /// The same 32-bit word for embedded broadcast.
    pub fn word(&mut self, v: u32) -> Mem {
        Mem::Const(self.constant(&v.to_le_bytes()))
    }

    /// The same 64-bit word for embedded broadcast.
    pub fn quad(&mut self, v: u64) -> Mem {
        Mem::Const(self.constant(&v.to_le_bytes()))
    }

    /// 16 words.
    pub fn words(&mut self, v: [u32; 16]) -> Mem {
        let bytes: Vec<u8> = v.iter().flat_map(|w| w.to_le_bytes()).collect();
        Mem::Const(self.constant(&bytes))
    }

    /// 64 bytes.
    pub fn bytes(&mut self, v: [u8; 64]) -> Mem {
        Mem::Const(self.constant(&v))
    }

    /// 8 quads.
    pub fn quads(&mut self, v: [u64; 8]) -> Mem {
        let bytes: Vec<u8> = v.iter().flat_map(|w| w.to_le_bytes()).collect();
        Mem::Const(self.constant(&bytes))
    }

    /// Resolves jumps and appends the constants. None if a label was never bound.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        for (at, l) in &self.jumps {
            let target = self.labels.get(l.0).copied().flatten()?;
            let rel = (target as i64 - (*at as i64 + 4)) as i32;
            self.code
                .get_mut(*at..*at + 4)?
                .copy_from_slice(&rel.to_le_bytes());
        }
        let mut places = Vec::with_capacity(self.consts.len());
        for c in &self.consts {
            let align = c.len().next_power_of_two().min(64);
            self.code
                .resize(self.code.len().next_multiple_of(align), 0xcc);
            places.push(self.code.len());
            self.code.extend(c);
        }
        for (at, end, c) in &self.const_uses {
            let rel = (*places.get(c.0)? as i64 - *end as i64) as i32;
            self.code
                .get_mut(*at..*at + 4)?
                .copy_from_slice(&rel.to_le_bytes());
        }
        Some(self.code)
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    /// ModRM, SIB and displacement. `trailing` counts the immediate bytes after them;
    /// `scale` is the unit of a one-byte displacement (0: never use one).
    fn modrm(&mut self, reg: u8, rm: Rm, trailing: usize, scale: i32) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Z(Z(r)) | Rm::G(G(r)) => self.byte(0xc0 | reg | (r & 7)),
            Rm::M(Mem::Const(c)) => {
                self.byte(reg | 5);
                let at = self.code.len();
                self.const_uses.push((at, at + 4 + trailing, c));
                self.code.extend([0; 4]);
            }
            Rm::M(Mem::At(base, disp)) => {
                let low = base.0 & 7;
                let short = scale > 0 && disp % scale == 0 && i8::try_from(disp / scale).is_ok();
                let mode = match disp {
                    0 if low != 5 => 0,
                    _ if short => 0x40,
                    _ => 0x80,
                };
                self.byte(mode | reg | low);
                if low == 4 {
                    self.byte(0x24);
                }
                match mode {
                    0 => {}
                    0x40 => self.byte((disp / scale) as u8),
                    _ => self.code.extend(disp.to_le_bytes()),
                }
            }
            Rm::M(Mem::Vsib(base, index, disp)) => {
                self.byte(0x80 | reg | 4);
                self.byte(((index.0 & 7) << 3) | (base.0 & 7));
                self.code.extend(disp.to_le_bytes());
            }
        }
    }

    /// An EVEX instruction `op reg{k}, v, rm, imm`.
    #[allow(clippy::too_many_arguments)] // the fields of the encoding
    pub fn evex(
        &mut self,
        op: Op,
        len: Len,
        reg: u8,
        v: u8,
        rm: impl Into<Rm>,
        dec: Dec,
        imm: Option<u8>,
    ) {
        let rm = rm.into();
        let Op(map, pp, w, opcode) = op;
        let inv = |bit: u8, at: u8| (1 - (bit & 1)) << at;
        let (b, x, v4) = match rm {
            Rm::Z(Z(r)) => (r >> 3, r >> 4, v >> 4),
            Rm::G(G(r)) => (r >> 3, 0, v >> 4),
            Rm::M(Mem::At(base, _)) => (base.0 >> 3, 0, v >> 4),
            Rm::M(Mem::Vsib(base, index, _)) => (base.0 >> 3, index.0 >> 3, index.0 >> 4),
            Rm::M(Mem::Const(_)) => (0, 0, v >> 4),
        };
        self.byte(0x62);
        self.byte(inv(reg >> 3, 7) | inv(x, 6) | inv(b, 5) | inv(reg >> 4, 4) | map);
        self.byte((w << 7) | ((!v & 15) << 3) | 4 | pp);
        let (l, rounded) = match len {
            Len::X => (0, false),
            Len::Z => (2, false),
            Len::Rounded(mode) => (mode & 3, true),
        };
        self.byte(
            (u8::from(dec.zero) << 7)
                | (l << 5)
                | (u8::from(dec.bcast || rounded) << 4)
                | inv(v4, 3)
                | dec.k,
        );
        self.byte(opcode);
        let scale = if dec.bcast {
            if w == 1 { 8 } else { 4 }
        } else if matches!(
            op,
            op::VMOVDQA32 | op::VMOVDQA32_ST | op::VMOVDQU32 | op::VMOVDQU32_ST
        ) {
            16 << l
        } else {
            0
        };
        self.modrm(reg, rm, usize::from(imm.is_some()), scale);
        self.code.extend(imm);
    }

    /// `op d, a, b` over 512 bits.
    pub fn v3(&mut self, op: Op, d: Z, a: Z, b: impl Into<Rm>) {
        self.evex(op, Len::Z, d.0, a.0, b, Dec::default(), None);
    }

    /// `op d, a, [one element]` over 512 bits.
    pub fn v3b(&mut self, op: Op, d: Z, a: Z, b: Mem) {
        self.evex(
            op,
            Len::Z,
            d.0,
            a.0,
            b,
            Dec {
                bcast: true,
                ..Dec::default()
            },
            None,
        );
    }

    /// `op d, a` over 512 bits.
    pub fn v2(&mut self, op: Op, d: Z, a: impl Into<Rm>) {
        self.evex(op, Len::Z, d.0, 0, a, Dec::default(), None);
    }

    /// `op d, a, b, imm` over 512 bits.
    pub fn v3i(&mut self, op: Op, d: Z, a: Z, b: impl Into<Rm>, imm: u8) {
        self.evex(op, Len::Z, d.0, a.0, b, Dec::default(), Some(imm));
    }

    /// `op k, a, b, imm`: a comparison.
    pub fn cmp(&mut self, op: Op, len: Len, d: K, a: Z, b: impl Into<Rm>, imm: u8) {
        self.evex(op, len, d.0, a.0, b, Dec::default(), Some(imm));
    }

    /// `op d, a, b` over 128 bits.
    pub fn x3(&mut self, op: Op, d: Z, a: Z, b: impl Into<Rm>) {
        self.evex(op, Len::X, d.0, a.0, b, Dec::default(), None);
    }

    /// A shift or rotation by a number: `ext` is the opcode extension.
    pub fn shift(&mut self, op: Op, len: Len, ext: u8, d: Z, a: Z, n: u8) {
        self.evex(op, len, ext, d.0, a, Dec::default(), Some(n));
    }

    /// A VEX instruction on mask registers.
    #[allow(clippy::too_many_arguments)] // the fields of the encoding
    fn vexk(&mut self, l: u8, pp: u8, w: u8, opcode: u8, reg: u8, v: u8, rm: Rm) {
        let (b, x) = match rm {
            Rm::Z(Z(r)) | Rm::G(G(r)) => (r >> 3, 0),
            Rm::M(Mem::At(base, _)) => (base.0 >> 3, 0),
            Rm::M(_) => (0, 0),
        };
        let bit = |v: u8| (1 - (v & 1)) & 1;
        self.byte(0xc4);
        self.byte((bit(reg >> 3) << 7) | (bit(x) << 6) | (bit(b) << 5) | 1);
        self.byte((w << 7) | ((!v & 15) << 3) | (l << 2) | pp);
        self.byte(opcode);
        self.modrm(reg, rm, 0, 1);
    }

    /// `kmovd k, r32`.
    pub fn kmovd_from(&mut self, k: K, r: G) {
        self.vexk(0, 3, 0, 0x92, k.0, 0, r.into());
    }
    /// `kmovd r32, k`.
    pub fn kmovd_to(&mut self, r: G, k: K) {
        self.vexk(0, 3, 0, 0x93, r.0, 0, Rm::Z(Z(k.0)));
    }
    /// `kmovw k, [m16]`.
    pub fn kmovw_load(&mut self, k: K, m: Mem) {
        self.vexk(0, 0, 0, 0x90, k.0, 0, m.into());
    }
    /// `kmovb k, [m8]`.
    pub fn kmovb_load(&mut self, k: K, m: Mem) {
        self.vexk(0, 1, 0, 0x90, k.0, 0, m.into());
    }
    /// `kunpckwd d, high, low`.
    pub fn kunpckwd(&mut self, d: K, high: K, low: K) {
        self.vexk(1, 0, 0, 0x4b, d.0, high.0, Rm::Z(Z(low.0)));
    }
    /// `kunpckbw d, high, low`.
    pub fn kunpckbw(&mut self, d: K, high: K, low: K) {
        self.vexk(1, 1, 0, 0x4b, d.0, high.0, Rm::Z(Z(low.0)));
    }
    /// `kandw d, a, b`.
    pub fn kandw(&mut self, d: K, a: K, b: K) {
        self.vexk(1, 0, 0, 0x41, d.0, a.0, Rm::Z(Z(b.0)));
    }
    /// `korw d, a, b`.
    pub fn korw(&mut self, d: K, a: K, b: K) {
        self.vexk(1, 0, 0, 0x45, d.0, a.0, Rm::Z(Z(b.0)));
    }
    /// `kortestw a, b`.
    pub fn kortestw(&mut self, a: K, b: K) {
        self.vexk(0, 0, 0, 0x98, a.0, 0, Rm::Z(Z(b.0)));
    }
    /// `kortestb a, b`.
    pub fn kortestb(&mut self, a: K, b: K) {
        self.vexk(0, 1, 0, 0x98, a.0, 0, Rm::Z(Z(b.0)));
    }

    fn rex(&mut self, w: u8, reg: u8, rm: Rm, always: bool) {
        let b = match rm {
            Rm::G(G(r)) => r >> 3,
            Rm::M(Mem::At(base, _)) => base.0 >> 3,
            _ => 0,
        };
        let p = 0x40 | (w << 3) | ((reg >> 3) << 2) | b;
        if p != 0x40 || always {
            self.byte(p);
        }
    }

    fn gpr(&mut self, w: u8, opcode: &[u8], reg: u8, rm: Rm, trailing: usize) {
        self.rex(w, reg, rm, false);
        self.code.extend(opcode);
        self.modrm(reg, rm, trailing, 1);
    }

    /// 32-bit `mov r, [m]`, zero-extended.
    pub fn load32(&mut self, r: G, m: Mem) {
        self.gpr(0, &[0x8b], r.0, m.into(), 0);
    }
    /// 64-bit `mov r, [m]`.
    pub fn load64(&mut self, r: G, m: Mem) {
        self.gpr(1, &[0x8b], r.0, m.into(), 0);
    }
    /// 32-bit `mov [m], r`.
    pub fn store32(&mut self, m: Mem, r: G) {
        self.gpr(0, &[0x89], r.0, m.into(), 0);
    }
    /// 64-bit `mov [m], r`.
    pub fn store64(&mut self, m: Mem, r: G) {
        self.gpr(1, &[0x89], r.0, m.into(), 0);
    }
    /// `mov dword [m], imm`.
    pub fn store_imm32(&mut self, m: Mem, v: u32) {
        self.gpr(0, &[0xc7], 0, m.into(), 4);
        self.code.extend(v.to_le_bytes());
    }
    /// Loads of 8 and 16 bits: `movzx` or `movsx` to 32 bits.
    pub fn load_small(&mut self, r: G, m: Mem, bytes: u8, signed: bool) {
        let o = match (bytes, signed) {
            (1, false) => 0xb6,
            (1, true) => 0xbe,
            (_, false) => 0xb7,
            (_, true) => 0xbf,
        };
        self.gpr(0, &[0x0f, o], r.0, m.into(), 0);
    }
    /// 64-bit `mov d, s`.
    pub fn mov(&mut self, d: G, s: G) {
        self.gpr(1, &[0x8b], d.0, s.into(), 0);
    }
    /// 32-bit `mov d, s`.
    pub fn mov32(&mut self, d: G, s: G) {
        self.gpr(0, &[0x8b], d.0, s.into(), 0);
    }
    /// `mov r32, imm`.
    pub fn imm32(&mut self, r: G, v: u32) {
        self.rex(0, 0, r.into(), false);
        self.byte(0xb8 | (r.0 & 7));
        self.code.extend(v.to_le_bytes());
    }
    /// `mov r64, imm`.
    pub fn imm64(&mut self, r: G, v: u64) {
        if let Ok(v) = u32::try_from(v) {
            return self.imm32(r, v);
        }
        self.rex(1, 0, r.into(), false);
        self.byte(0xb8 | (r.0 & 7));
        self.code.extend(v.to_le_bytes());
    }
    /// 64-bit `add d, s`.
    pub fn add(&mut self, d: G, s: impl Into<Rm>) {
        self.gpr(1, &[0x03], d.0, s.into(), 0);
    }
    /// 64-bit `sub d, s`.
    pub fn sub(&mut self, d: G, s: impl Into<Rm>) {
        self.gpr(1, &[0x2b], d.0, s.into(), 0);
    }
    /// 64-bit `cmp a, b`.
    pub fn cmp64(&mut self, a: G, b: impl Into<Rm>) {
        self.gpr(1, &[0x3b], a.0, b.into(), 0);
    }
    /// 64-bit `add r, imm32`, sign-extended.
    pub fn add_imm(&mut self, r: G, v: i32) {
        self.gpr(1, &[0x81], 0, r.into(), 4);
        self.code.extend(v.to_le_bytes());
    }
    /// 64-bit `cmp r, imm32`, sign-extended.
    pub fn cmp_imm(&mut self, r: G, v: i32) {
        self.gpr(1, &[0x81], 7, r.into(), 4);
        self.code.extend(v.to_le_bytes());
    }
    /// 64-bit `shl r, n`.
    pub fn shl(&mut self, r: G, n: u8) {
        self.gpr(1, &[0xc1], 4, r.into(), 1);
        self.byte(n);
    }
    /// 32-bit `and d, s`.
    pub fn and32(&mut self, d: G, s: impl Into<Rm>) {
        self.gpr(0, &[0x23], d.0, s.into(), 0);
    }
    /// 32-bit `or d, s`.
    pub fn or32(&mut self, d: G, s: impl Into<Rm>) {
        self.gpr(0, &[0x0b], d.0, s.into(), 0);
    }
    /// 32-bit `xor d, s`.
    pub fn xor32(&mut self, d: G, s: impl Into<Rm>) {
        self.gpr(0, &[0x33], d.0, s.into(), 0);
    }
    /// 32-bit `cmp a, b`.
    pub fn cmp32(&mut self, a: G, b: impl Into<Rm>) {
        self.gpr(0, &[0x3b], a.0, b.into(), 0);
    }
    /// 32-bit `test a, a`.
    pub fn test32(&mut self, a: G) {
        self.gpr(0, &[0x85], a.0, a.into(), 0);
    }
    /// 64-bit `test a, a`.
    pub fn test64(&mut self, a: G) {
        self.gpr(1, &[0x85], a.0, a.into(), 0);
    }
    /// 32-bit `not r`.
    pub fn not32(&mut self, r: G) {
        self.gpr(0, &[0xf7], 2, r.into(), 0);
    }
    /// `and r32, imm`.
    pub fn and_imm(&mut self, r: G, v: u32) {
        self.gpr(0, &[0x81], 4, r.into(), 4);
        self.code.extend(v.to_le_bytes());
    }
    /// `cmp r32, imm8`, sign-extended.
    pub fn cmp_imm8(&mut self, r: G, v: i8) {
        self.gpr(0, &[0x83], 7, r.into(), 1);
        self.byte(v as u8);
    }
    /// `cmp dword [m], imm32`.
    pub fn cmp_mem_imm(&mut self, m: Mem, v: u32) {
        self.gpr(0, &[0x81], 7, m.into(), 4);
        self.code.extend(v.to_le_bytes());
    }
    /// `cmp qword [m], imm8`, sign-extended.
    pub fn cmp_mem64(&mut self, m: Mem, v: i8) {
        self.gpr(1, &[0x83], 7, m.into(), 1);
        self.byte(v as u8);
    }
    /// `cmp byte [m], imm8`.
    pub fn cmp_byte(&mut self, m: Mem, v: u8) {
        self.gpr(0, &[0x80], 7, m.into(), 1);
        self.byte(v);
    }
    /// `prefetcht0 [m]`.
    pub fn prefetch(&mut self, m: Mem) {
        self.gpr(0, &[0x0f, 0x18], 1, m.into(), 0);
    }
    /// `sub dword [m], 1`.
    pub fn count_down(&mut self, m: Mem) {
        self.gpr(0, &[0x83], 5, m.into(), 1);
        self.byte(1);
    }
    /// `shr r32, n`.
    pub fn shr32(&mut self, r: G, n: u8) {
        self.gpr(0, &[0xc1], 5, r.into(), 1);
        self.byte(n);
    }
    /// `push r`.
    pub fn push(&mut self, r: G) {
        self.rex(0, 0, r.into(), false);
        self.byte(0x50 | (r.0 & 7));
    }
    /// `pop r`.
    pub fn pop(&mut self, r: G) {
        self.rex(0, 0, r.into(), false);
        self.byte(0x58 | (r.0 & 7));
    }
    /// `add rsp, n` (or `sub`, if negative).
    pub fn move_stack(&mut self, n: i8) {
        self.gpr(1, &[0x83], 0, RSP.into(), 1);
        self.byte(n as u8);
    }
    /// `call r`.
    pub fn call(&mut self, r: G) {
        self.gpr(0, &[0xff], 2, r.into(), 0);
    }
    /// `jmp r`.
    pub fn jump_to(&mut self, r: G) {
        self.gpr(0, &[0xff], 4, r.into(), 0);
    }
    /// `jmp [m]`.
    pub fn jump_to_mem(&mut self, m: Mem) {
        self.gpr(0, &[0xff], 4, m.into(), 0);
    }
    /// `lea r, [label]`.
    pub fn address_of(&mut self, r: G, l: Label) {
        self.byte(0x48 | ((r.0 >> 3) << 2));
        self.code.extend([0x8d, ((r.0 & 7) << 3) | 5]);
        self.jumps.push((self.code.len(), l));
        self.code.extend([0; 4]);
    }
    /// `jmp label`.
    pub fn jump(&mut self, l: Label) {
        self.byte(0xe9);
        self.jumps.push((self.code.len(), l));
        self.code.extend([0; 4]);
    }
    /// `jcc label`.
    pub fn branch(&mut self, cc: Cc, l: Label) {
        self.byte(0x0f);
        self.byte(0x80 | cc as u8);
        self.jumps.push((self.code.len(), l));
        self.code.extend([0; 4]);
    }
    /// `ret`.
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }
    /// `vzeroupper`.
    pub fn vzeroupper(&mut self) {
        self.code.extend([0xc5, 0xf8, 0x77]);
    }
}
