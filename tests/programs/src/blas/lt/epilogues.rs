//! Bias, ReLU and GELU, and their gradients.

use anyhow::{Context as _, Result, ensure};

use super::products::Case;
use super::{C64, Lt, Matrix, NOT_SUPPORTED, Ordered, Random, Test, Type, ok};
use crate::cuda::Buffer;

pub const TESTS: &[Test] = &[
    ("lt_epilogues", forward),
    ("lt_epilogue_gradients", gradients),
    ("lt_epilogues_not_supported", unsupported),
];

fn gelu(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    0.5 * x * (1.0 + inner.tanh())
}

const CASES: &[(u32, Type, Type)] = &[
    (68, Type::F32, Type::F32),
    (68, Type::F16, Type::F16),
    (68, Type::F16, Type::F32),
    (68, Type::Bf16, Type::Bf16),
    (77, Type::F32, Type::F32),
    (64, Type::F16, Type::F16),
    (70, Type::F64, Type::F64),
];

/// More than a tile, and no multiple of eight.
const SIZE: [usize; 3] = [141, 21, 24];

/// Bits of a column in memory.
const BITS: usize = 256;

fn forward(lt: &Lt) -> Result<()> {
    let mut random = Random(31);
    for &(compute, ty, out) in CASES {
        for epilogue in [2u32, 4, 6, 32, 36, 130, 134, 160, 164] {
            for by_rows in [false, true] {
                if by_rows && epilogue >= 128 {
                    continue;
                }
                let mut case = Case::new(compute, ty, out, SIZE);
                case.heuristic = by_rows;
                case.by_rows[2] = by_rows;
                case.by_rows[3] = by_rows;
                one(lt, &case, epilogue, &mut random).with_context(|| {
                    format!("epilogue {epilogue}, compute {compute}, {ty:?} to {out:?}, by rows {by_rows}")
                })?;
            }
        }
    }
    Ok(())
}

fn one(lt: &Lt, case: &Case, epilogue: u32, random: &mut Random) -> Result<()> {
    let [rows, cols, _] = case.size;
    let m = case.matrices(random)?;
    let bias = Matrix::new(case.out, rows, 1, 0, random)?;
    let bits = Buffer::from(&vec![0u8; BITS / 8 * cols])?;
    let ld = rows.next_multiple_of(8);
    let inputs = Matrix::of(case.out, rows, ld, vec![C64::real(5.0); ld * cols])?;
    let (has_bias, is_relu) = (epilogue & 4 != 0, epilogue & 2 != 0);
    let keeps = epilogue & 128 != 0;
    let status = case.call(lt, &m, |operation| {
        operation.set(7, epilogue)?;
        if has_bias {
            operation.set(8, bias.at())?;
        }
        if keeps {
            operation.set(11, if is_relu { bits.address() } else { inputs.at() })?;
            operation.set(12, if is_relu { BITS } else { ld } as i64)?;
        }
        Ok(())
    })?;
    ok("cublasLtMatmul", status)?;
    let before = |i: usize, j: usize| {
        let (mut value, mut bound) = case.want(&m, i, j);
        if has_bias {
            value = value + bias.get(i, 0);
            bound += value.abs() * case.out.epsilon() * 2.0;
        }
        (value, bound)
    };
    m[3].compare("D", |i, j| {
        let (x, bound) = before(i, j);
        let value = match epilogue {
            _ if is_relu => x.re.max(0.0),
            _ if epilogue & 32 != 0 => gelu(x.re),
            _ => x.re,
        };
        // The slopes are at most 1.13; tanh of single precision may be used.
        let slack = 1e-5 * f64::from(epilogue & 32 != 0 && case.out != Type::F64);
        (C64::real(value), bound * 1.2 + slack)
    })?;
    if keeps && is_relu {
        let bytes = bits.read()?;
        for (i, j) in (0..BITS).flat_map(|i| (0..cols).map(move |j| (i, j))) {
            let bit = bytes[j * BITS / 8 + i / 8] >> (i % 8) & 1;
            let want = if i < rows {
                before(i, j)
            } else {
                (C64::ZERO, 0.0)
            };
            // Where the sign is certain.
            if want.0.re.abs() > want.1 {
                ensure!(
                    bit == u8::from(want.0.re > 0.0),
                    "the bit of ({i}, {j}) is {bit} for {:?}",
                    want.0
                );
            }
        }
    } else if keeps {
        inputs.compare("the inputs of GELU", before)?;
    }
    Ok(())
}

fn gradients(lt: &Lt) -> Result<()> {
    let mut random = Random(32);
    for &(compute, ty, out) in CASES {
        let mut case = Case::new(compute, ty, out, SIZE);
        case.beta = C64::ZERO;
        let [rows, cols, _] = SIZE;
        let m = case.matrices(&mut random)?;
        let pattern: Vec<u8> = (0..BITS / 8 * cols).map(|i| (i * 37 % 251) as u8).collect();
        let bits = Buffer::from(&pattern)?;
        let status = case.call(lt, &m, |operation| {
            operation.set(7, 136u32)?;
            operation.set(11, bits.address())?;
            operation.set(12, BITS as i64)
        })?;
        ok("cublasLtMatmul", status)?;
        m[3].compare("the gradient of ReLU", |i, j| {
            let (value, bound) = case.want(&m, i, j);
            match pattern[j * BITS / 8 + i / 8] >> (i % 8) & 1 {
                1 => (value, bound),
                _ => (C64::ZERO, 0.0),
            }
        })?;
        let ld = rows.next_multiple_of(8);
        let inputs = Matrix::new(out, rows, cols, ld - rows, &mut random)?;
        let m = case.matrices(&mut random)?;
        let status = case.call(lt, &m, |operation| {
            operation.set(7, 192u32)?;
            operation.set(11, inputs.at())?;
            operation.set(12, ld as i64)
        })?;
        ok("cublasLtMatmul", status)?;
        m[3].compare("the gradient of GELU", |i, j| {
            let (value, bound) = case.want(&m, i, j);
            let x = inputs.get(i, j).re;
            // By differences: the derivative is smooth.
            let slope = (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
            let slack = 1e-5 + 1e-8;
            (
                C64::real(value.re * slope),
                bound * 1.2 + value.re.abs() * slack,
            )
        })?;
    }
    Ok(())
}

/// Documented ones that are not there say so, and change nothing.
fn unsupported(lt: &Lt) -> Result<()> {
    let mut random = Random(33);
    for (compute, ty, out, epilogue) in [
        (68, Type::F32, Type::F32, 152u32),
        (68, Type::F32, Type::F32, 208),
        (68, Type::F32, Type::F32, 256),
        (68, Type::F32, Type::F32, 512),
        // "Non-default epilogue not supported".
        (72, Type::I8, Type::I32, 2),
        (68, Type::C32, Type::C32, 2),
    ] {
        let case = Case::new(compute, ty, out, [8, 8, 8]);
        let m: [Ordered; 4] = case.matrices(&mut random)?;
        let bias = Matrix::new(out, 8, 16, 0, &mut random)?;
        let status = case.call(lt, &m, |operation| {
            operation.set(7, epilogue)?;
            operation.set(8, bias.at())?;
            operation.set(11, bias.at())?;
            operation.set(12, 128i64)
        })?;
        ensure!(
            status == NOT_SUPPORTED,
            "epilogue {epilogue} of {ty:?}: {status}"
        );
        m[3].compare("nothing", |i, j| (m[3].get(i, j), 0.0))?;
    }
    Ok(())
}
