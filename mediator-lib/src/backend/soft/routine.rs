//! cuBLAS's routines of levels 1 to 3 and of batches: what each means for `vgpu-soft-blas`.

use vgpu_protocol::Status;
use vgpu_protocol::blas::ty;
use vgpu_protocol::calls::{BlasMatrix, BlasRoutine, Routine};
use vgpu_soft_blas::elements::{Triangular, combine, real_diagonal, triangular};
use vgpu_soft_blas::gemm::{Product, product};
use vgpu_soft_blas::lapack::{Integers, getrf, getri, getrs, matinv};
use vgpu_soft_blas::level1::{asum, dot, extreme, map, nrm2};
use vgpu_soft_blas::num::{c32, c64};
use vgpu_soft_blas::solve::{Solve, solve};
use vgpu_soft_blas::{Addressing, BlasError, Exec, Layout, Matrix, Num, Scalar, Shape, Type};

use super::blas::{refused, scalar, size, ty as type_of};

/// A routine that was checked, and is ready to run.
#[derive(Clone, Debug)]
pub struct RoutineWork {
    routine: Routine,
    ty: Type,
    op: BlasRoutine,
}

type Done<T = ()> = Result<T, BlasError>;

/// Bytes of a result: as the routine's result lies in memory.
pub type Bytes = Vec<u8>;

impl RoutineWork {
    pub fn new(op: BlasRoutine) -> Result<RoutineWork, Status> {
        let routine = op.check().map_err(refused)?;
        for matrix in [&op.a, &op.b, &op.c] {
            type_of(matrix.ty)?;
        }
        for count in [op.m, op.n, op.k, op.ku, op.batch] {
            size(count)?;
        }
        Ok(RoutineWork {
            routine,
            ty: type_of(op.ty)?,
            op,
        })
    }

    /// Runs it; gives a result where there is one to give to the guest.
    pub fn run(&self, exec: &Exec<'_>) -> Done<Bytes> {
        match self.ty {
            Type::F32 | Type::F16 | Type::Bf16 => self.typed::<f32>(exec),
            Type::F64 => self.typed::<f64>(exec),
            Type::C32 => self.typed::<c32>(exec),
            Type::C64 => self.typed::<c64>(exec),
            _ => Err(BlasError::Unsupported("the type of a routine")),
        }
    }

    fn n(&self) -> u64 {
        self.op.n as u64
    }

    fn m(&self) -> u64 {
        self.op.m as u64
    }

    fn k(&self) -> u64 {
        self.op.k as u64
    }

    fn upper(&self) -> bool {
        self.op.uplo == 1
    }

    fn vector(&self, what: &'static str, v: &BlasMatrix, count: u64) -> Matrix {
        let ty = Type::from_cuda(v.ty).unwrap_or(self.ty);
        Matrix::vector(what, v.at.0, ty, count, v.ld)
    }

    fn matrix(&self, what: &'static str, m: &BlasMatrix, rows: u64, cols: u64) -> Matrix {
        let ty = Type::from_cuda(m.ty).unwrap_or(self.ty);
        Matrix::new(what, m.at.0, ty, rows, cols, m.ld)
    }

    /// A of order n, as it is stored: full, a band, or packed.
    fn square(&self, n: u64) -> Matrix {
        use Routine::*;
        let a = self.matrix("A", &self.op.a, n, n);
        let k = self.op.k;
        let upper = self.upper();
        match self.routine {
            Sbmv | Hbmv | Tbmv | Tbsv => a.laid_out(Layout::Band {
                kl: if upper { 0 } else { k },
                ku: if upper { k } else { 0 },
                ld: self.op.a.ld,
            }),
            Spmv | Hpmv | Spr | Hpr | Spr2 | Hpr2 | Tpmv | Tpsv => {
                a.laid_out(Layout::Packed { upper })
            }
            _ => a,
        }
    }

    fn triangle(&self, n: u64) -> Matrix {
        let shape = Shape::Triangle {
            upper: self.upper(),
            unit: self.op.diag == 1,
        };
        self.square(n).shaped(shape).op(self.op.transa)
    }

    /// A symmetric or Hermitian A.
    fn mirrored(&self, n: u64) -> Matrix {
        use Routine::*;
        let upper = self.upper();
        let hermitian = matches!(self.routine, Hemv | Hbmv | Hpmv | Hemm);
        self.square(n).shaped(if hermitian {
            Shape::Hermitian { upper }
        } else {
            Shape::Symmetric { upper }
        })
    }

    fn factors<T: Num>(&self, exec: &Exec<'_>) -> Done<(T, T)> {
        let (a, b) = self.op.scalars;
        Ok((
            number(exec, &scalar(&self.op.alpha), a)?,
            number(exec, &scalar(&self.op.beta), b)?,
        ))
    }

    fn typed<T: Num>(&self, exec: &Exec<'_>) -> Done<Bytes> {
        use Routine::*;
        match self.routine {
            Dot | Nrm2 | Asum | Amax | Amin => return self.result::<T>(exec),
            Axpy | Copy | Swap | Scal | Rot | Rotm => self.vectors::<T>(exec)?,
            Gemv | Gbmv | GemvBatched | GemvStridedBatched => self.gemv::<T>(exec)?,
            Ger | Syr | Her | Spr | Hpr => self.rank_one::<T>(exec)?,
            Syr2 | Her2 | Spr2 | Hpr2 => self.rank_two::<T>(exec)?,
            Symv | Hemv | Sbmv | Hbmv | Spmv | Hpmv => {
                let (alpha, beta) = self.factors::<T>(exec)?;
                let n = self.n();
                let (x, y) = (
                    self.vector("x", &self.op.b, n),
                    self.vector("y", &self.op.c, n),
                );
                one(exec, (n, 1, n), alpha, (self.mirrored(n), x), beta, y)?;
            }
            Trmv | Tbmv | Tpmv | Trsv | Tbsv | Tpsv => self.triangular_vector::<T>(exec)?,
            Symm | Hemm => self.symm::<T>(exec)?,
            Syrk | Herk | Syrkx | Herkx | Syr2k | Her2k => self.rank_k::<T>(exec)?,
            Trmm => self.trmm::<T>(exec)?,
            Trsm => self.trsm::<T>(exec)?,
            Geam => self.geam::<T>(exec)?,
            Dgmm => self.dgmm::<T>(exec)?,
            GetrfBatched | GetrsBatched | GetriBatched | MatinvBatched => self.lapack::<T>(exec)?,
        }
        Ok(Bytes::new())
    }

    fn vectors<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let n = self.n();
        let (x, y) = (
            self.vector("x", &self.op.a, n),
            self.vector("y", &self.op.b, n),
        );
        match self.routine {
            Axpy => {
                let (alpha, _): (T, T) = self.factors(exec)?;
                if alpha == T::ZERO {
                    return Ok(());
                }
                map(exec, n, (x, y), true, move |x: T, y| (None, alpha * x + y))
            }
            Copy => map(exec, n, (x, y), false, |x: T, _| (None, x)),
            Swap => map(exec, n, (x, y), true, |x: T, y| (Some(y), x)),
            Scal => {
                let (alpha, _): (T, T) = self.factors(exec)?;
                map(exec, n, (x, x), false, move |x: T, _| (None, alpha * x))
            }
            Rot => {
                let (c, s): (T, T) = self.factors(exec)?;
                map(exec, n, (x, y), true, move |x: T, y| {
                    (Some(c * x + s * y), c * y - s.conj() * x)
                })
            }
            _ => {
                let Some([h11, h21, h12, h22]) = self.modified::<T>(exec)? else {
                    return Ok(());
                };
                map(exec, n, (x, y), true, move |x: T, y| {
                    (Some(h11 * x + h12 * y), h21 * x + h22 * y)
                })
            }
        }
    }

    /// The matrix of a modified rotation; `None` for the one that changes nothing.
    fn modified<T: Num>(&self, exec: &Exec<'_>) -> Done<Option<[T; 4]>> {
        let size = self.ty.bytes() as usize;
        let mut raw = [0u8; 40];
        for (place, word) in raw.chunks_mut(8).zip(self.op.param) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        let mut values = [T::ZERO; 5];
        for (i, value) in values.iter_mut().enumerate() {
            let from = match self.op.alpha.device.0 {
                0 => {
                    let mut bytes = [0; 16];
                    bytes[..size].copy_from_slice(&raw[i * size..][..size]);
                    Scalar::Value(bytes)
                }
                at => Scalar::Device(at.wrapping_add((i * size) as u64)),
            };
            *value = from.get(exec.space, self.ty)?;
        }
        let [flag, h11, h21, h12, h22] = values;
        // BLAS, ROTM: param(1) tells which elements are given and which are 1 or -1.
        Ok(match flag.parts().0 {
            -1.0 => Some([h11, h21, h12, h22]),
            0.0 => Some([T::ONE, h21, h12, T::ONE]),
            1.0 => Some([h11, -T::ONE, T::ONE, h22]),
            _ => None,
        })
    }

    fn result<T: Num>(&self, exec: &Exec<'_>) -> Done<Bytes> {
        use Routine::*;
        let n = self.n();
        let x = self.vector("x", &self.op.a, n);
        let positive = n > 0 && self.op.a.ld > 0;
        let bytes = match self.routine {
            Dot => {
                let y = self.vector("y", &self.op.b, n);
                let x = x.conjugated(self.op.transb == 2);
                let value: T = if n == 0 { T::ZERO } else { dot(exec, n, x, y)? };
                stored(value, self.op.scalars.0)
            }
            Nrm2 | Asum => {
                let value = match self.routine {
                    _ if !positive => 0.0,
                    Nrm2 => nrm2::<T>(exec, n, x)?,
                    _ => asum::<T>(exec, n, x)?,
                };
                if matches!(self.ty, Type::F64 | Type::C64) {
                    value.to_ne_bytes().to_vec()
                } else {
                    stored(value as f32, self.op.scalars.0)
                }
            }
            _ => {
                let least = self.routine == Amin;
                let index = if positive {
                    extreme::<T>(exec, n, x, least)?
                } else {
                    0
                };
                index.to_ne_bytes()[..self.op.result_bytes.min(8) as usize].to_vec()
            }
        };
        let to = self.op.result.0;
        if to == 0 {
            return Ok(bytes);
        }
        exec.space
            .write(to, &bytes)
            .map_err(|_| BlasError::IllegalAddress {
                what: "a result",
                addr: to,
                bytes: bytes.len() as u64,
            })?;
        Ok(Bytes::new())
    }

    fn gemv<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (alpha, beta) = self.factors::<T>(exec)?;
        let (m, n) = (self.m(), self.n());
        let mut a = self.matrix("A", &self.op.a, m, n);
        if self.routine == Routine::Gbmv {
            a = a.laid_out(Layout::Band {
                kl: self.op.k,
                ku: self.op.ku,
                ld: self.op.a.ld,
            });
        }
        let (rows, cols) = if self.op.transa == 0 { (m, n) } else { (n, m) };
        let place = |stride: i64| match self.routine {
            Routine::GemvBatched => Addressing::Pointers,
            _ => Addressing::Strided(stride),
        };
        let (x, y) = (&self.op.b, &self.op.c);
        product(
            exec,
            Product {
                m: rows,
                n: 1,
                k: cols,
                alpha,
                a: a.op(self.op.transa).batched(place(self.op.a.stride)),
                b: self.vector("x", x, cols).batched(place(x.stride)),
                beta,
                c: self.vector("y", y, rows).batched(place(y.stride)),
                batch: if self.op.batch == 0 && !self.is_batch() {
                    1
                } else {
                    self.op.batch as u64
                },
            },
        )
    }

    fn is_batch(&self) -> bool {
        matches!(
            self.routine,
            Routine::GemvBatched | Routine::GemvStridedBatched
        )
    }

    fn rank_one<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let (alpha, _) = self.factors::<T>(exec)?;
        let n = self.n();
        if self.routine == Ger {
            let m = self.m();
            let y = self.vector("y", &self.op.c, n).transposed();
            let y = y.conjugated(self.op.transb == 2);
            let x = self.vector("x", &self.op.b, m);
            return one(
                exec,
                (m, n, 1),
                alpha,
                (x, y),
                T::ONE,
                self.matrix("A", &self.op.a, m, n),
            );
        }
        let x = self.vector("x", &self.op.b, n);
        let hermitian = matches!(self.routine, Her | Hpr);
        let a = self.half(n);
        one(
            exec,
            (n, n, 1),
            alpha,
            (x, x.transposed().conjugated(hermitian)),
            T::ONE,
            a,
        )?;
        if hermitian && alpha != T::ZERO {
            real_diagonal::<T>(exec, n, a)
        } else {
            Ok(())
        }
    }

    /// The triangle of A that is updated.
    fn half(&self, n: u64) -> Matrix {
        self.square(n).shaped(Shape::Triangle {
            upper: self.upper(),
            unit: false,
        })
    }

    fn rank_two<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let (alpha, _) = self.factors::<T>(exec)?;
        let n = self.n();
        let (x, y) = (
            self.vector("x", &self.op.b, n),
            self.vector("y", &self.op.c, n),
        );
        let hermitian = matches!(self.routine, Her2 | Hpr2);
        let a = self.half(n);
        let turned = |v: Matrix| v.transposed().conjugated(hermitian);
        let second = if hermitian { alpha.conj() } else { alpha };
        one(exec, (n, n, 1), alpha, (x, turned(y)), T::ONE, a)?;
        one(exec, (n, n, 1), second, (y, turned(x)), T::ONE, a)?;
        if hermitian && alpha != T::ZERO {
            real_diagonal::<T>(exec, n, a)
        } else {
            Ok(())
        }
    }

    fn triangular_vector<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let n = self.n();
        let (a, b) = (self.triangle(n), self.vector("x", &self.op.b, n));
        if matches!(self.routine, Trmv | Tbmv | Tpmv) {
            triangular(
                exec,
                Triangular {
                    n,
                    cols: 1,
                    alpha: T::ONE,
                    a,
                    b,
                },
            )
        } else {
            solve(
                exec,
                Solve {
                    n,
                    cols: 1,
                    alpha: T::ONE,
                    a,
                    b,
                    batch: 1,
                },
            )
        }
    }

    fn symm<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (alpha, beta) = self.factors::<T>(exec)?;
        let (m, n) = (self.m(), self.n());
        let left = self.op.side == 0;
        let a = self.mirrored(if left { m } else { n });
        let b = self.matrix("B", &self.op.b, m, n);
        let (k, pair) = if left { (m, (a, b)) } else { (n, (b, a)) };
        one(
            exec,
            (m, n, k),
            alpha,
            pair,
            beta,
            self.matrix("C", &self.op.c, m, n),
        )
    }

    fn rank_k<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let (alpha, beta) = self.factors::<T>(exec)?;
        let (n, k) = (self.n(), self.k());
        let operation = self.op.transa;
        let (rows, cols) = if operation == 0 { (n, k) } else { (k, n) };
        let hermitian = matches!(self.routine, Herk | Herkx | Her2k);
        let a = self.matrix("A", &self.op.a, rows, cols).op(operation);
        let b = match self.routine {
            Syrk | Herk => a,
            _ => self.matrix("B", &self.op.b, rows, cols).op(operation),
        };
        let turned = |m: Matrix| m.transposed().conjugated(hermitian);
        let c = self.matrix("C", &self.op.c, n, n).shaped(Shape::Triangle {
            upper: self.upper(),
            unit: false,
        });
        one(exec, (n, n, k), alpha, (a, turned(b)), beta, c)?;
        if matches!(self.routine, Syr2k | Her2k) {
            let second = if hermitian { alpha.conj() } else { alpha };
            one(exec, (n, n, k), second, (b, turned(a)), T::ONE, c)?;
        }
        let unchanged = (alpha == T::ZERO || k == 0) && beta == T::ONE;
        if hermitian && !unchanged {
            real_diagonal::<T>(exec, n, c)
        } else {
            Ok(())
        }
    }

    /// A and the matrix on its other side, turned so that A is on the left.
    fn on_the_left(&self, b: Matrix) -> (u64, u64, Matrix, Matrix) {
        let (m, n) = (self.m(), self.n());
        if self.op.side == 0 {
            (m, n, self.triangle(m), b)
        } else {
            (n, m, self.triangle(n).transposed(), b.transposed())
        }
    }

    fn trmm<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (alpha, _) = self.factors::<T>(exec)?;
        let (m, n) = (self.m(), self.n());
        let c = self.matrix("C", &self.op.c, m, n);
        if self.op.c.at != self.op.b.at && alpha != T::ZERO {
            let b = self.matrix("B", &self.op.b, m, n);
            combine(exec, (m, n), (Some(b), None), c, |_, _, _, b: T, _| Ok(b))?;
        }
        let (n, cols, a, b) = self.on_the_left(c);
        triangular(
            exec,
            Triangular {
                n,
                cols,
                alpha,
                a,
                b,
            },
        )
    }

    fn trsm<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (alpha, _) = self.factors::<T>(exec)?;
        let b = self.matrix("B", &self.op.b, self.m(), self.n());
        let (n, cols, a, b) = self.on_the_left(b);
        solve(
            exec,
            Solve {
                n,
                cols,
                alpha,
                a,
                b,
                batch: 1,
            },
        )
    }

    fn geam<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (alpha, beta) = self.factors::<T>(exec)?;
        let (m, n) = (self.m(), self.n());
        let part = |what, part: &BlasMatrix, operation: u32, factor: T| {
            let (rows, cols) = if operation == 0 { (m, n) } else { (n, m) };
            let matrix = self.matrix(what, part, rows, cols).op(operation);
            (factor != T::ZERO).then_some(matrix)
        };
        let a = part("A", &self.op.a, self.op.transa, alpha);
        let b = part("B", &self.op.b, self.op.transb, beta);
        let c = self.matrix("C", &self.op.c, m, n);
        combine(exec, (m, n), (a, b), c, move |_, _, _, a: T, b| {
            // A factor of 0 hides what the matrix holds.
            let left = if alpha == T::ZERO { T::ZERO } else { alpha * a };
            Ok(if beta == T::ZERO {
                left
            } else {
                left + beta * b
            })
        })
    }

    fn dgmm<T: Num>(&self, exec: &Exec<'_>) -> Done {
        let (m, n) = (self.m(), self.n());
        let left = self.op.side == 0;
        let x = self.vector("x", &self.op.b, if left { m } else { n });
        let (a, c) = (
            self.matrix("A", &self.op.a, m, n),
            self.matrix("C", &self.op.c, m, n),
        );
        // The vector as a matrix whose rows, or columns, are all the same.
        let Layout::Strided { rs, .. } = x.layout else {
            return Err(BlasError::Internal);
        };
        let mut repeated = x.laid_out(if left {
            Layout::Strided { rs, cs: 0 }
        } else {
            Layout::Strided { rs: 0, cs: rs }
        });
        (repeated.rows, repeated.cols) = (m, n);
        combine(
            exec,
            (m, n),
            (Some(a), Some(repeated)),
            c,
            |_, _, _, a: T, x| Ok(a * x),
        )
    }

    fn lapack<T: Num>(&self, exec: &Exec<'_>) -> Done {
        use Routine::*;
        let (n, batch) = (self.n(), self.op.batch as u64);
        let pointers = Addressing::Pointers;
        let a = self.matrix("A", &self.op.a, n, n).batched(pointers);
        let pivots = Integers {
            at: self.op.result.0,
            count: n,
        };
        let info = Integers {
            at: self.op.info.0,
            count: 1,
        };
        let c = self.matrix("C", &self.op.c, n, n).batched(pointers);
        match self.routine {
            GetrfBatched => getrf::<T>(exec, n, a, (pivots, info), batch),
            GetriBatched => getri::<T>(exec, n, (a, c), (pivots, info), batch),
            MatinvBatched => matinv::<T>(exec, n, (a, c), info, batch),
            _ => {
                let cols = self.k();
                let b = self.matrix("B", &self.op.b, n, cols).batched(pointers);
                getrs::<T>(exec, (n, cols), self.op.transa, (a, b), pivots, batch)
            }
        }
    }
}

/// A scalar of any of the types that a routine may have it in: of a complex routine it may be real.
fn number<T: Num>(exec: &Exec<'_>, from: &Scalar, number: u32) -> Done<T> {
    let (re, im) = match number {
        ty::R_32F => Num::parts(from.get::<f32>(exec.space, Type::F32)?),
        ty::R_16F => Num::parts(from.get::<f32>(exec.space, Type::F16)?),
        ty::R_16BF => Num::parts(from.get::<f32>(exec.space, Type::Bf16)?),
        ty::R_64F => Num::parts(from.get::<f64>(exec.space, Type::F64)?),
        ty::C_32F => Num::parts(from.get::<c32>(exec.space, Type::C32)?),
        ty::C_64F => Num::parts(from.get::<c64>(exec.space, Type::C64)?),
        _ => return Err(BlasError::Unsupported("the type of a scalar")),
    };
    Ok(T::of(re, im))
}

/// A number as it lies in memory, in the type with this number.
fn stored<T: Num>(value: T, number: u32) -> Bytes {
    let (re, im) = value.parts();
    match number {
        ty::R_16F => half::f16::from_f64(re).to_ne_bytes().to_vec(),
        ty::R_16BF => half::bf16::from_f64(re).to_ne_bytes().to_vec(),
        ty::R_64F => re.to_ne_bytes().to_vec(),
        ty::C_32F => [(re as f32).to_ne_bytes(), (im as f32).to_ne_bytes()].concat(),
        ty::C_64F => [re.to_ne_bytes(), im.to_ne_bytes()].concat(),
        _ => (re as f32).to_ne_bytes().to_vec(),
    }
}

/// One product.
fn one<T: Num>(
    exec: &Exec<'_>,
    (m, n, k): (u64, u64, u64),
    alpha: T,
    (a, b): (Matrix, Matrix),
    beta: T,
    c: Matrix,
) -> Done {
    product(
        exec,
        Product {
            m,
            n,
            k,
            alpha,
            a,
            b,
            beta,
            c,
            batch: 1,
        },
    )
}
