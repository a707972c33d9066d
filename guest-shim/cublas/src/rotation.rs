//! Rotations are made from two numbers: computed here, where the numbers are.

use vgpu_protocol::blas::BlasStatus;

use crate::abi::{Done, Out, exports};
use crate::handle;

/// The numbers are in the program's memory. In device memory they would have to be fetched: that is not
/// there.
fn host(handle: u64) -> Done {
    if handle::get(handle)?.device_pointers() {
        return Err(BlasStatus::NOT_SUPPORTED);
    }
    Ok(())
}

/// What a rotation comes to: r, z, c and s of BLAS, ROTG.
fn real(a: f64, b: f64) -> [f64; 4] {
    let scale = a.abs() + b.abs();
    if scale == 0.0 {
        return [0.0, 0.0, 1.0, 0.0];
    }
    let larger = if a.abs() > b.abs() { a } else { b };
    let r = (scale * (a / scale).hypot(b / scale)).copysign(larger);
    let (c, s) = (a / r, b / r);
    let z = if a.abs() > b.abs() {
        s
    } else if c != 0.0 {
        1.0 / c
    } else {
        1.0
    };
    [r, z, c, s]
}

/// The same of complex numbers: r, c and s.
fn complex(a: [f64; 2], b: [f64; 2]) -> ([f64; 2], f64, [f64; 2]) {
    let size = a[0].hypot(a[1]);
    if size == 0.0 {
        return (b, 0.0, [1.0, 0.0]);
    }
    let norm = size.hypot(b[0].hypot(b[1]));
    let alpha = [a[0] / size, a[1] / size];
    // alpha times the conjugate of b.
    let s = [
        (alpha[0] * b[0] + alpha[1] * b[1]) / norm,
        (alpha[1] * b[0] - alpha[0] * b[1]) / norm,
    ];
    ([alpha[0] * norm, alpha[1] * norm], size / norm, s)
}

/// A modified rotation (BLAS, ROTMG): d1, d2, x1 and the five parameters.
fn modified(mut d1: f64, mut d2: f64, mut x1: f64, y1: f64) -> ([f64; 3], [f64; 5]) {
    const GAMMA: f64 = 4096.0;
    const SQUARE: f64 = GAMMA * GAMMA;
    let nothing = |d1, d2, x1, flag| ([d1, d2, x1], [flag, 0.0, 0.0, 0.0, 0.0]);
    if d1 < 0.0 {
        return nothing(0.0, 0.0, 0.0, -1.0);
    }
    let p2 = d2 * y1;
    if p2 == 0.0 {
        return nothing(d1, d2, x1, -2.0);
    }
    let p1 = d1 * x1;
    let (q2, q1) = (p2 * y1, p1 * x1);
    let (mut flag, mut h11, mut h21, mut h12, mut h22);
    if q1.abs() > q2.abs() {
        (h21, h12) = (-y1 / x1, p2 / p1);
        (h11, h22) = (1.0, 1.0);
        let u = 1.0 - h12 * h21;
        if u <= 0.0 {
            return nothing(0.0, 0.0, 0.0, -1.0);
        }
        flag = 0.0;
        (d1, d2, x1) = (d1 / u, d2 / u, x1 * u);
    } else {
        if q2 < 0.0 {
            return nothing(0.0, 0.0, 0.0, -1.0);
        }
        flag = 1.0;
        (h11, h22) = (p1 / p2, x1 / y1);
        (h12, h21) = (1.0, -1.0);
        let u = 1.0 + h11 * h22;
        (d1, d2, x1) = (d2 / u, d1 / u, y1 * u);
    }
    // Kept within bounds by powers of gamma; then all elements are given.
    if d1 != 0.0 && d1.is_finite() {
        while d1 <= 1.0 / SQUARE || d1 >= SQUARE {
            flag = -1.0;
            let factor = if d1 <= 1.0 / SQUARE {
                GAMMA
            } else {
                1.0 / GAMMA
            };
            d1 *= factor * factor;
            x1 /= factor;
            h11 /= factor;
            h12 /= factor;
        }
    }
    if d2 != 0.0 && d2.is_finite() {
        while d2.abs() <= 1.0 / SQUARE || d2.abs() >= SQUARE {
            flag = -1.0;
            let factor = if d2.abs() <= 1.0 / SQUARE {
                GAMMA
            } else {
                1.0 / GAMMA
            };
            d2 *= factor * factor;
            h21 /= factor;
            h22 /= factor;
        }
    }
    ([d1, d2, x1], [flag, h11, h21, h12, h22])
}

/// Which parameters are stored: those that the flag does not imply.
fn given(flag: f64) -> &'static [usize] {
    match flag {
        -1.0 => &[0, 1, 2, 3, 4],
        0.0 => &[0, 2, 3],
        1.0 => &[0, 1, 4],
        _ => &[0],
    }
}

macro_rules! rotg {
    ($(fn $name:ident: $t:ty;)*) => {$(exports! {
        /// Makes a rotation.
        fn $name(handle: u64, a: Out<$t>, b: Out<$t>, c: Out<$t>, s: Out<$t>) {
            host(handle)?;
            let (x, y) = (a.get()?, b.get()?);
            c.check()?;
            s.check()?;
            let [r, z, cosine, sine] = real(x.into(), y.into());
            a.set(r as $t)?;
            b.set(z as $t)?;
            c.set(cosine as $t)?;
            s.set(sine as $t)
        }
    })*};
}
rotg! {
    fn cublasSrotg_v2: f32;
    fn cublasDrotg_v2: f64;
}

macro_rules! complex_rotg {
    ($(fn $name:ident: $t:ty;)*) => {$(exports! {
        /// Makes a rotation of complex numbers.
        fn $name(handle: u64, a: Out<[$t; 2]>, b: Out<[$t; 2]>, c: Out<$t>, s: Out<[$t; 2]>) {
            host(handle)?;
            let (x, y) = (a.get()?.map(f64::from), b.get()?.map(f64::from));
            c.check()?;
            s.check()?;
            let (r, cosine, sine) = complex(x, y);
            a.set(r.map(|v| v as $t))?;
            c.set(cosine as $t)?;
            s.set(sine.map(|v| v as $t))
        }
    })*};
}
complex_rotg! {
    fn cublasCrotg_v2: f32;
    fn cublasZrotg_v2: f64;
}

macro_rules! rotmg {
    ($(fn $name:ident: $t:ty;)*) => {$(exports! {
        /// Makes a modified rotation.
        fn $name(handle: u64, d1: Out<$t>, d2: Out<$t>, x1: Out<$t>, y1: Out<$t>, param: Out<[$t; 5]>) {
            host(handle)?;
            let mut stored = param.get()?;
            let (ds, values) = modified(d1.get()?.into(), d2.get()?.into(), x1.get()?.into(), y1.get()?.into());
            for place in given(values[0]) {
                stored[*place] = values[*place] as $t;
            }
            for (out, value) in [d1, d2, x1].into_iter().zip(ds) {
                out.set(value as $t)?;
            }
            param.set(stored)
        }
    })*};
}
rotmg! {
    fn cublasSrotmg_v2: f32;
    fn cublasDrotmg_v2: f64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_turns_the_second_number_into_zero() {
        for (a, b) in [(3.0, 4.0), (-3.0, 4.0), (5.0, -1.0), (0.0, 2.0), (2.0, 0.0)] {
            let [r, _, c, s] = real(a, b);
            assert!((c * a + s * b - r).abs() < 1e-12);
            assert!((c * b - s * a).abs() < 1e-12);
            assert!((c * c + s * s - 1.0).abs() < 1e-12);
        }
        let (r, c, s) = complex([1.0, 2.0], [-2.0, 0.5]);
        // c a + s b = r.
        let sb = [s[0] * -2.0 - s[1] * 0.5, s[0] * 0.5 + s[1] * -2.0];
        assert!((c + sb[0] - r[0]).abs() < 1e-12 && (2.0 * c + sb[1] - r[1]).abs() < 1e-12);
    }

    #[test]
    fn a_modified_rotation_keeps_the_weighted_length() {
        for (d1, d2, x1, y1) in [
            (2.0, 3.0, 1.5, -0.5),
            (0.5, 4.0, -1.0, 2.0),
            (1e9, 1e-9, 3.0, 7.0),
        ] {
            let ([e1, _, z], [flag, h11, h21, h12, h22]) = modified(d1, d2, x1, y1);
            let (h11, h21, h12, h22) = match flag {
                0.0 => (1.0, h21, h12, 1.0),
                1.0 => (h11, -1.0, 1.0, h22),
                _ => (h11, h21, h12, h22),
            };
            let (x, y) = (h11 * x1 + h12 * y1, h21 * x1 + h22 * y1);
            assert!((x - z).abs() < 1e-9 * z.abs(), "{x} and {z}");
            assert!(y.abs() < 1e-9 * (y1.abs() + x1.abs()) * h22.abs().max(1.0));
            let (before, after) = (d1 * x1 * x1 + d2 * y1 * y1, e1 * z * z);
            assert!(
                (before - after).abs() < 1e-9 * before,
                "{before} and {after}"
            );
        }
    }
}
