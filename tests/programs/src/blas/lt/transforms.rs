//! Matrices in another order or type.

use std::ffi::c_void;

use anyhow::{Result, ensure};

use super::{
    C64, INVALID_VALUE, Lt, NOT_SUPPORTED, Object, Ordered, Random, Test, Type, call, null, ok,
};

pub const TESTS: &[Test] = &[("lt_transform", transform), ("lt_transform_bad", bad)];

fn desc(lt: &Lt, scale: u32) -> Result<Object<'_>> {
    let mut at = 0u64;
    let status =
        call!(lt, "cublasLtMatrixTransformDescCreate", &raw mut at => *mut u64, scale => u32);
    ok("cublasLtMatrixTransformDescCreate", status)?;
    Ok(Object {
        lt,
        kind: "MatrixTransformDesc",
        at,
    })
}

fn transform(lt: &Lt) -> Result<()> {
    let mut random = Random(41);
    let (rows, cols) = (45, 70);
    let types = [
        (Type::F32, Type::F32, Type::F32),
        (Type::F32, Type::F16, Type::F32),
        (Type::F32, Type::F32, Type::F16),
        (Type::F32, Type::Bf16, Type::F16),
        (Type::F64, Type::F64, Type::F64),
        (Type::C32, Type::C32, Type::C32),
        (Type::C64, Type::C64, Type::C64),
    ];
    for (scale, from, to) in types {
        for bits in 0..16u32 {
            let (turn_a, turn_b) = (bits & 1, bits >> 1 & 1);
            let size = |turn: u32| {
                if turn == 0 {
                    (rows, cols)
                } else {
                    (cols, rows)
                }
            };
            let a = Ordered::new(from, size(turn_a), bits & 4 != 0, 2, &mut random)?;
            let b = Ordered::new(from, size(turn_b), bits & 8 != 0, 5, &mut random)?;
            let c = Ordered::new(to, (rows, cols), bits & 4 == 0, 1, &mut random)?;
            let d = desc(lt, scale as u32)?;
            d.set(2, turn_a as i32)?;
            d.set(3, turn_b as i32)?;
            let (sa, sb) = (size(turn_a), size(turn_b));
            let (la, lb) = (a.layout(lt, sa.0, sa.1)?, b.layout(lt, sb.0, sb.1)?);
            let lc = c.layout(lt, rows, cols)?;
            let with_b = bits % 3 != 0;
            let (alpha, beta) = (C64::real(2.0), C64::real(if with_b { -0.5 } else { 0.0 }));
            let (al, be) = (scale.encode(alpha), scale.encode(beta));
            let (place, layout) = if with_b {
                (b.stored.at(), lb.at)
            } else {
                (0, 0)
            };
            let status = call!(lt, "cublasLtMatrixTransform", lt.handle => u64, d.at => u64, al.as_ptr() => *const u8,
                a.stored.at() => u64, la.at => u64, be.as_ptr() => *const u8, place => u64, layout => u64,
                c.stored.at() => u64, lc.at => u64, 0 => u64);
            ok("cublasLtMatrixTransform", status)?;
            c.compare(&format!("{from:?} to {to:?}, case {bits}"), |i, j| {
                let mut value = alpha * a.op(turn_a, i, j);
                if with_b {
                    value = value + beta * b.op(turn_b, i, j);
                }
                (value, 4.0 * (to.epsilon() + scale.epsilon()))
            })?;
        }
    }
    Ok(())
}

fn bad(lt: &Lt) -> Result<()> {
    let mut random = Random(42);
    let a = Ordered::new(Type::F32, (8, 8), false, 0, &mut random)?;
    let one = 1.0f32;
    let run = |layout: &Object<'_>,
               to: &Object<'_>,
               d: u64,
               from: u64,
               alpha: *const c_void|
     -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatrixTransform", lt.handle => u64, d => u64, alpha => *const c_void,
            from => u64, layout.at => u64, null() => *const c_void, 0 => u64, 0 => u64,
            a.stored.at() => u64, to.at => u64, 0 => u64),
        )
    };
    let (d, plain) = (desc(lt, 0)?, a.layout(lt, 8, 8)?);
    let at = a.stored.at();
    let factor = (&raw const one).cast();
    ok("good arguments", run(&plain, &plain, d.at, at, factor)?)?;
    let other = lt.layout(Type::F32, 4, 8, 8)?;
    ensure!(
        run(&other, &plain, d.at, at, factor)? == INVALID_VALUE,
        "sizes that differ"
    );
    ensure!(
        run(&plain, &plain, 0, at, factor)? == INVALID_VALUE,
        "no descriptor"
    );
    ensure!(
        run(&plain, &plain, plain.at, at, factor)? == INVALID_VALUE,
        "a layout as a descriptor"
    );
    ensure!(
        run(&plain, &plain, d.at, 0, factor)? == INVALID_VALUE,
        "no matrix"
    );
    ensure!(
        run(&plain, &plain, d.at, at, null())? == INVALID_VALUE,
        "no factor"
    );
    let tiles = lt.layout(Type::F32, 8, 8, 256)?;
    tiles.set(1, 2i32)?;
    ensure!(
        run(&plain, &tiles, d.at, at, factor)? == NOT_SUPPORTED,
        "an order of tiles"
    );
    let ints = lt.layout(Type::I8, 8, 8, 8)?;
    ensure!(
        run(&ints, &plain, d.at, at, factor)? == NOT_SUPPORTED,
        "int8"
    );
    Ok(())
}
