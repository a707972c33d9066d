//! cublasLt: calls to routines of `vgpu-soft-blas`.

use vgpu_protocol::Status;
use vgpu_protocol::blas::{ComputeKind, ty as number};
use vgpu_protocol::blas_lt::{Activation, Epilogue};
use vgpu_protocol::calls::{LtMatmul, LtMatrix, LtTransform};
use vgpu_soft_blas::elements::combine;
use vgpu_soft_blas::exec::go_on;
use vgpu_soft_blas::finish::{self, Finish};
use vgpu_soft_blas::gemm::{Compute, Gemm};
use vgpu_soft_blas::num::{c32, c64};
use vgpu_soft_blas::{Addressing, BlasError, Exec, Layout, Matrix, Num, Scalar, Type};

use super::blas::{BlasWork, refused, scalar, ty};

/// A matrix as it lies in memory.
fn matrix(what: &'static str, m: &LtMatrix) -> Result<Matrix, Status> {
    let found = Matrix::new(what, m.at.0, ty(m.ty)?, m.rows, m.cols, m.ld);
    let layout = match m.order {
        0 => found.layout,
        _ => Layout::Strided { rs: m.ld, cs: 1 },
    };
    let batch = match m.mode {
        0 => Addressing::Strided(m.stride),
        _ => Addressing::Pointers,
    };
    Ok(found.laid_out(layout).batched(batch))
}

fn finish(op: &LtMatmul, epilogue: Epilogue) -> Result<Finish, Status> {
    let (m, n) = (op.d.rows, op.d.cols);
    let bias = match epilogue.bias {
        false => None,
        true => {
            let bias = Matrix::vector("the bias", op.bias.0, ty(op.bias_ty)?, m, 1);
            Some(bias.batched(Addressing::Strided(op.bias_stride)))
        }
    };
    let aux = match (epilogue.aux, epilogue.has_bits()) {
        (false, _) => None,
        // Eight rows are one of bytes.
        (true, true) => {
            let (rows, ld) = (m.div_ceil(8), op.aux_ld / 8);
            let bits = Matrix::new("the bits of ReLU", op.aux.0, Type::I8, rows, n, ld);
            Some(bits.batched(Addressing::Strided(op.aux_stride / 8)))
        }
        (true, false) => {
            let element = ty(op.aux_ty)?;
            let inputs = Matrix::new("the inputs of GELU", op.aux.0, element, m, n, op.aux_ld);
            Some(inputs.batched(Addressing::Strided(op.aux_stride)))
        }
    };
    Ok(Finish {
        bias,
        activation: match epilogue.activation {
            Activation::None => finish::Activation::None,
            Activation::Relu => finish::Activation::Relu,
            Activation::Gelu => finish::Activation::Gelu,
            Activation::ReluGradient => finish::Activation::ReluGradient,
            Activation::GeluGradient => finish::Activation::GeluGradient,
        },
        aux,
    })
}

impl BlasWork {
    /// A call of cublasLtMatmul.
    pub fn lt_matmul(op: &LtMatmul) -> Result<BlasWork, Status> {
        let (kind, epilogue) = op.check().map_err(refused)?;
        let (m, k) = op.a.turned(op.transa);
        let other = op.c.at != op.d.at;
        Ok(BlasWork::Gemm(Box::new(Gemm {
            m,
            n: op.d.cols,
            k,
            alpha: scalar(&op.alpha),
            a: matrix("A", &op.a)?.op(op.transa),
            b: matrix("B", &op.b)?.op(op.transb),
            beta: scalar(&op.beta),
            c: matrix("D", &op.d)?,
            batch: op.d.batch as u64,
            compute: match kind {
                ComputeKind::F16 => Compute::F16,
                ComputeKind::F32 | ComputeKind::F32Fast => Compute::F32,
                ComputeKind::F64 => Compute::F64,
                ComputeKind::I32 if op.d.ty == number::R_8I => Compute::I8,
                ComputeKind::I32 => Compute::I32,
            },
            from: match other {
                true => Some(matrix("C", &op.c)?),
                false => None,
            },
            finish: finish(op, epilogue)?,
        })))
    }

    /// A call of cublasLtMatrixTransform.
    pub fn lt_transform(op: &LtTransform) -> Result<BlasWork, Status> {
        op.check().map_err(refused)?;
        Ok(BlasWork::Transform(Box::new(Transform {
            scale: ty(op.scale)?,
            size: (op.c.rows, op.c.cols),
            alpha: scalar(&op.alpha),
            a: matrix("A", &op.a)?.op(op.transa),
            beta: scalar(&op.beta),
            b: match op.b.at.0 {
                0 => None,
                _ => Some(matrix("B", &op.b)?.op(op.transb)),
            },
            c: matrix("C", &op.c)?,
            batch: op.c.batch as u64,
        })))
    }
}

/// A call of cublasLtMatrixTransform, checked.
#[derive(Clone, Debug)]
pub struct Transform {
    scale: Type,
    size: (u64, u64),
    alpha: Scalar,
    a: Matrix,
    beta: Scalar,
    b: Option<Matrix>,
    c: Matrix,
    batch: u64,
}

impl Transform {
    /// Does it.
    pub fn run(&self, exec: &Exec<'_>) -> Result<(), BlasError> {
        match self.scale {
            Type::F32 => self.typed::<f32>(exec),
            Type::F64 => self.typed::<f64>(exec),
            Type::C32 => self.typed::<c32>(exec),
            Type::C64 => self.typed::<c64>(exec),
            _ => Err(BlasError::Unsupported("the scale type of a transformation")),
        }
    }

    fn typed<T: Num>(&self, exec: &Exec<'_>) -> Result<(), BlasError> {
        let alpha = self.alpha.get::<T>(exec.space, T::OWN)?;
        let beta = self.beta.get::<T>(exec.space, T::OWN)?;
        for index in 0..self.batch {
            go_on(exec.abort)?;
            let of = |matrix: Matrix| {
                let Addressing::Strided(stride) = matrix.batch else {
                    return matrix;
                };
                let bytes = stride.wrapping_mul(matrix.ty.bytes() as i64);
                let at = matrix
                    .at
                    .wrapping_add_signed(bytes.wrapping_mul(index as i64));
                Matrix { at, ..matrix }
            };
            // A factor of 0 leaves its matrix unread.
            let a = (alpha != T::ZERO).then(|| of(self.a));
            let b = self.b.filter(|_| beta != T::ZERO).map(of);
            combine(exec, self.size, (a, b), of(self.c), move |_, _, _, x, y| {
                Ok(alpha * x + beta * y)
            })?;
        }
        Ok(())
    }
}
