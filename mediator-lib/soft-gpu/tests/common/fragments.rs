//! Fragments of matrices: kernels over them, the formats of their elements, and where each element
//! is, by the formulas of the PTX ISA.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test file uses some of it, and fails by a panic

use super::{Arg, devices};

/// A small generator of pseudo-random numbers, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }
}

/// A kernel that loads the fragments' registers, one array of 32 values per register, runs
/// `code`, and stores the registers of D.
pub fn kernel(code: &str, registers: [usize; 4], wide: bool) -> String {
    let (ty, step) = if wide { ("b64", 8) } else { ("b32", 4) };
    let mut body = String::new();
    let mut at = 0;
    for (name, n) in ["a", "b", "c"].into_iter().zip(registers) {
        for r in 0..n {
            body += &format!("ld.global.{ty} %{name}{r}, [%in+{}];\n", at * 32 * step);
            at += 1;
        }
    }
    let mut tail = String::new();
    for r in 0..registers[3] {
        body += &format!("mov.{ty} %d{r}, 77;\n");
        tail += &format!("st.global.{ty} [%out+{}], %d{r};\n", r * 32 * step);
    }
    format!(
        ".version 8.7\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 i, .param .u64 o)\n{{\n\
         .reg .pred %p<4>; .reg .b32 %l, %x<8>; .reg .b64 %in, %out, %off;\n\
         .reg .{ty} %a<8>, %b<8>, %c<8>, %d<8>;\n.shared .align 128 .b8 tile[8192];\n\
         ld.param.u64 %in, [i]; ld.param.u64 %out, [o]; mov.u32 %l, %tid.x;\n\
         mul.wide.u32 %off, %l, {step}; add.s64 %in, %in, %off; add.s64 %out, %out, %off;\n\
         {body}{code}\n{tail}ret;\n}}\n"
    )
}

pub fn list(name: &str, n: usize) -> String {
    let v: Vec<String> = (0..n).map(|r| format!("%{name}{r}")).collect();
    format!("{{{}}}", v.join(", "))
}

pub fn run32(ptx: &str, input: &[u32], registers: usize) -> Vec<u32> {
    let mut results: Vec<Vec<u32>> = Vec::new();
    for d in devices(ptx) {
        let (i, o) = (d.upload(input), d.upload(&vec![0u32; 32 * registers]));
        d.launch("k", 1, 32, &[Arg::Ptr(i), Arg::Ptr(o)]);
        results.push(d.download(o, 32 * registers));
    }
    for r in &results[1..] {
        assert_eq!(&results[0], r, "two forms of execution of\n{ptx}");
    }
    results.swap_remove(0)
}

pub fn f16(h: u32) -> f32 {
    let (e, m) = ((h >> 10) & 31, h & 0x3ff);
    let v = match (e, m) {
        (31, 0) => f32::INFINITY,
        (31, _) => f32::NAN,
        (0, m) => m as f32 * 2f32.powi(-24),
        (e, m) => (1024 + m) as f32 * 2f32.powi(e as i32 - 25),
    };
    if h & 0x8000 != 0 { -v } else { v }
}

/// The nearest f16, ties to even, by trying the neighbours.
pub fn to_f16(v: f32) -> u32 {
    if v.is_nan() {
        return 0x7fff;
    }
    let sign = if v.is_sign_negative() { 0x8000 } else { 0 };
    let x = f64::from(v.abs());
    if x >= 65_520.0 {
        return sign | 0x7c00;
    }
    let mut low = 0;
    let mut high = 0x7c00;
    while high - low > 1 {
        let mid = (low + high) / 2;
        if f64::from(f16(mid)) <= x {
            low = mid;
        } else {
            high = mid;
        }
    }
    let next = if high == 0x7c00 {
        65_536.0
    } else {
        f64::from(f16(high))
    };
    let (down, up) = (x - f64::from(f16(low)), next - x);
    let up = up < down || (up == down && low & 1 == 1);
    sign | if up { high } else { low }
}

pub fn e4m3(b: u32) -> f32 {
    let (e, m) = ((b >> 3) & 15, b & 7);
    let v = match (e, m) {
        (15, 7) => f32::NAN,
        (0, m) => m as f32 * 2f32.powi(-9),
        (e, m) => (8 + m) as f32 * 2f32.powi(e as i32 - 10),
    };
    if b & 0x80 != 0 { -v } else { v }
}

pub fn bits32(v: f32) -> u32 {
    if v.is_nan() { 0x7fff_ffff } else { v.to_bits() }
}

/// Row and column of element `i` of A: the formulas of the ISA, whose cases are by register.
pub fn place_a(per: usize, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let register = i / per;
    let row = match register {
        0 | 2 => group,
        _ => group + 8,
    };
    let right = if register >= 2 { 4 * per } else { 0 };
    (row, thread * per + i % per + right)
}

pub fn place_b(per: usize, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    let below = if i / per >= 1 { 4 * per } else { 0 };
    (thread * per + i % per + below, group)
}

pub fn place_c(lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane % 4);
    (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1))
}

pub fn element(registers: &[u32], per: usize, lane: usize, i: usize) -> u32 {
    let bits = 32 / per;
    let v = registers[(i / per) * 32 + lane] >> (bits * (i % per));
    if bits == 32 { v } else { v & ((1 << bits) - 1) }
}

pub fn near_one_f32(v: u32) -> u32 {
    (v & 0x83ff_ffff) | 0x3c00_0000
}
pub fn near_one_f16x2(v: u32) -> u32 {
    (v & 0x8fff_8fff) | 0x3000_3000
}
pub fn near_one_bf16x2(v: u32) -> u32 {
    (v & 0x81ff_81ff) | 0x3e00_3e00
}
