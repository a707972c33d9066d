//! What guest and host both check of cublasLt's arguments, by the cuBLAS Library's documentation.

use crate::blas::{BlasStatus, ComputeKind, ty, type_bytes};
use crate::calls::{LtMatmul, LtMatrix, LtTransform};

/// Numbers of `cudaDataType` end here.
const TYPES: u32 = 40;

fn valid(condition: bool) -> Result<(), BlasStatus> {
    supported_or(condition, BlasStatus::INVALID_VALUE)
}

fn supported(condition: bool) -> Result<(), BlasStatus> {
    supported_or(condition, BlasStatus::NOT_SUPPORTED)
}

fn supported_or(condition: bool, status: BlasStatus) -> Result<(), BlasStatus> {
    if condition { Ok(()) } else { Err(status) }
}

/// What happens to each element of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// The Gaussian error linear unit, by its approximation with tanh.
    Gelu,
    /// The product is a gradient, which passes where the bits of ReLU say so.
    ReluGradient,
    /// The product is a gradient, which is multiplied by the derivative at the inputs of GELU.
    GeluGradient,
}

/// A `cublasLtEpilogue_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilogue {
    /// A bias is added first.
    pub bias: bool,
    /// What comes then.
    pub activation: Activation,
    /// Bits or inputs of the activation are stored, or read for a gradient.
    pub aux: bool,
}

impl Epilogue {
    /// By its number.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_NOT_SUPPORTED` for those that sum a bias gradient, `CUBLAS_STATUS_INVALID_VALUE`
    /// for a number that is none.
    pub fn from_number(number: u32) -> Result<Epilogue, BlasStatus> {
        use Activation::*;
        let (bias, activation, aux) = match number {
            1 => (false, None, false),
            4 => (true, None, false),
            2 => (false, Relu, false),
            6 => (true, Relu, false),
            130 => (false, Relu, true),
            134 => (true, Relu, true),
            32 => (false, Gelu, false),
            36 => (true, Gelu, false),
            160 => (false, Gelu, true),
            164 => (true, Gelu, true),
            136 => (false, ReluGradient, true),
            192 => (false, GeluGradient, true),
            152 | 208 | 256 | 512 => return Err(BlasStatus::NOT_SUPPORTED),
            _ => return Err(BlasStatus::INVALID_VALUE),
        };
        Ok(Epilogue {
            bias,
            activation,
            aux,
        })
    }

    /// `CUBLASLT_EPILOGUE_DEFAULT`.
    pub fn is_default(self) -> bool {
        !self.bias && self.activation == Activation::None
    }

    /// The matrix beside the product holds bits.
    pub fn has_bits(self) -> bool {
        matches!(self.activation, Activation::Relu | Activation::ReluGradient) && self.aux
    }
}

impl LtMatrix {
    /// Checks the layout alone: sizes, leading dimension, order, batch.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`, `CUBLAS_STATUS_NOT_SUPPORTED`.
    pub fn check(&self) -> Result<(), BlasStatus> {
        valid(self.ty < TYPES)?;
        supported(type_bytes(self.ty).is_some())?;
        // The orders of tiles are for kernels that multiply int8 matrices on older GPUs.
        valid(self.order <= 4)?;
        supported(self.order <= 1)?;
        // "Usually only values that can be expressed as int32_t are supported."
        let small = i32::MAX as u64;
        supported(self.rows <= small && self.cols <= small)?;
        let along = if self.order == 0 {
            self.rows
        } else {
            self.cols
        };
        valid(self.ld >= along.max(1) as i64)?;
        valid(self.batch >= 1)?;
        supported(self.batch <= i64::from(i32::MAX))?;
        valid(self.mode <= 2)?;
        supported(self.mode <= 1)
    }

    /// Rows and columns after a `cublasOperation_t`.
    pub fn turned(&self, operation: u32) -> (u64, u64) {
        if operation == 0 {
            (self.rows, self.cols)
        } else {
            (self.cols, self.rows)
        }
    }

    /// The same layout, whatever the address.
    fn is_like(&self, other: &LtMatrix) -> bool {
        LtMatrix {
            at: other.at,
            ..self.clone()
        } == *other
    }
}

impl LtMatmul {
    /// Checks all that can be said without memory: conflicts first, then what there is no kernel for.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`, `CUBLAS_STATUS_NOT_SUPPORTED`.
    pub fn check(&self) -> Result<(ComputeKind, Epilogue), BlasStatus> {
        valid(self.transa <= 2 && self.transb <= 2)?;
        let all = [&self.a, &self.b, &self.c, &self.d];
        for matrix in all {
            matrix.check()?;
        }
        let (m, k) = self.a.turned(self.transa);
        let (inner, n) = self.b.turned(self.transb);
        valid(inner == k)?;
        valid(
            [&self.c, &self.d]
                .iter()
                .all(|x| (x.rows, x.cols) == (m, n)),
        )?;
        valid(all.iter().all(|x| x.batch == self.d.batch))?;
        supported(all.iter().all(|x| x.mode == self.d.mode))?;
        // In place, C's layout must be D's.
        valid(self.c.at != self.d.at || self.c.is_like(&self.d))?;
        let kind = ComputeKind::from_number(self.compute).ok_or(BlasStatus::INVALID_VALUE)?;
        let epilogue = self.check_epilogue(m)?;
        let (a, b, c) = (self.a.ty, self.b.ty, self.c.ty);
        supported(c == self.d.ty)?;
        let in_floats = kind == ComputeKind::I32 && self.scale == ty::R_32F;
        if in_floats {
            supported((a, b, c) == (ty::R_8I, ty::R_8I, ty::R_8I))?;
        } else {
            supported(kind.takes(a, b, c) && self.scale == kind.scale_type(c))?;
        }
        // "Non-default epilogue not supported", of integers and of complex numbers.
        let plain = matches!(a, ty::R_8I | ty::C_8I | ty::C_32F | ty::C_64F);
        supported(epilogue.is_default() || !plain)?;
        let by_fours = [&self.a, &self.b]
            .iter()
            .all(|x| x.ld % 4 == 0 && x.at.0.is_multiple_of(4));
        supported(kind != ComputeKind::I32 || by_fours)?;
        Ok((kind, epilogue))
    }

    fn check_epilogue(&self, rows: u64) -> Result<Epilogue, BlasStatus> {
        let epilogue = Epilogue::from_number(self.epilogue)?;
        if epilogue.bias {
            valid(self.bias.0 != 0 && self.bias_ty < TYPES)?;
            supported(self.bias_ty == self.d.ty && self.d.mode == 0)?;
        }
        if epilogue.aux {
            valid(self.aux.0 != 0)?;
            // "ReLu: … must be divisible by 128. GELU: … divisible by 8", and no less than the rows of
            // D.
            let step = if epilogue.has_bits() { 128 } else { 8 };
            valid(self.aux_ld >= rows as i64 && self.aux_ld % step == 0)?;
            valid(self.aux_stride % step == 0)?;
            let own_type = epilogue.has_bits() || self.aux_ty == self.d.ty;
            supported(own_type && self.d.order == 0 && self.d.mode == 0)?;
        }
        Ok(epilogue)
    }

    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.d.rows == 0 || self.d.cols == 0
    }
}

impl LtTransform {
    /// Checks layouts and types. B takes part where it has an address.
    ///
    /// # Errors
    /// `CUBLAS_STATUS_INVALID_VALUE`, `CUBLAS_STATUS_NOT_SUPPORTED`.
    pub fn check(&self) -> Result<(), BlasStatus> {
        valid(self.transa <= 2 && self.transb <= 2)?;
        let both = [(&self.a, self.transa), (&self.b, self.transb)];
        let used = if self.b.at.0 == 0 { 1 } else { 2 };
        self.c.check()?;
        for (matrix, operation) in &both[..used] {
            matrix.check()?;
            valid(matrix.turned(*operation) == (self.c.rows, self.c.cols))?;
            valid(matrix.batch == self.c.batch)?;
            supported(matrix.mode == 0 && self.takes(matrix.ty))?;
        }
        supported(self.c.mode == 0 && self.takes(self.c.ty))
    }

    /// The type can be read and written by factors of this one.
    fn takes(&self, element: u32) -> bool {
        match self.scale {
            ty::R_32F => matches!(element, ty::R_32F | ty::R_16F | ty::R_16BF),
            scale => matches!(scale, ty::R_64F | ty::C_32F | ty::C_64F) && element == scale,
        }
    }

    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.c.rows == 0 || self.c.cols == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::DevPtr;

    fn matrix(at: u64, ty: u32, rows: u64, cols: u64) -> LtMatrix {
        LtMatrix {
            at: DevPtr(at),
            ty,
            rows,
            cols,
            ld: rows as i64,
            batch: 1,
            ..LtMatrix::default()
        }
    }

    fn product() -> LtMatmul {
        LtMatmul {
            compute: 68,
            scale: ty::R_32F,
            epilogue: 1,
            a: matrix(0x1000, ty::R_16F, 8, 6),
            b: matrix(0x2000, ty::R_16F, 6, 4),
            c: matrix(0x3000, ty::R_32F, 8, 4),
            d: matrix(0x4000, ty::R_32F, 8, 4),
            bias_ty: ty::R_32F,
            ..LtMatmul::default()
        }
    }

    #[test]
    fn conflicts_are_invalid_and_the_rest_is_not_supported() {
        assert!(product().check().is_ok());
        let with = |change: &dyn Fn(&mut LtMatmul)| {
            let mut op = product();
            change(&mut op);
            op.check().err()
        };
        let (invalid, unsupported) = (
            Some(BlasStatus::INVALID_VALUE),
            Some(BlasStatus::NOT_SUPPORTED),
        );
        assert_eq!(with(&|op| op.transa = 1), invalid);
        assert_eq!(with(&|op| op.transa = 3), invalid);
        assert_eq!(with(&|op| op.d.rows = 7), invalid);
        assert_eq!(with(&|op| op.a.ld = 7), invalid);
        assert_eq!(with(&|op| op.b.batch = 2), invalid);
        assert_eq!(with(&|op| op.d.batch = 0), invalid);
        assert_eq!(with(&|op| op.compute = 67), invalid);
        assert_eq!(with(&|op| op.epilogue = 3), invalid);
        assert_eq!(with(&|op| op.epilogue = 4), invalid);
        assert_eq!(with(&|op| op.a.order = 5), invalid);
        assert_eq!(with(&|op| op.d.ty = 99), invalid);
        assert_eq!(with(&|op| op.a.order = 2), unsupported);
        assert_eq!(with(&|op| op.scale = ty::R_16F), unsupported);
        assert_eq!(with(&|op| op.a.ty = ty::R_16BF), unsupported);
        assert_eq!(with(&|op| op.d.ty = ty::R_16F), unsupported);
        assert_eq!(with(&|op| op.epilogue = 256), unsupported);
        assert_eq!(with(&|op| op.a.ty = 28), unsupported);
        assert_eq!(
            with(&|op| {
                op.epilogue = 4;
                op.bias = DevPtr(0x5000);
            }),
            None
        );
        assert_eq!(
            with(&|op| {
                op.d = op.c.clone();
                op.d.ld = 9;
            }),
            invalid
        );
    }

    #[test]
    fn leading_dimensions_of_rows_and_of_bits() {
        let mut op = product();
        (op.a.order, op.a.ld) = (1, 6);
        assert!(op.check().is_ok());
        op.a.ld = 5;
        assert_eq!(op.check().err(), Some(BlasStatus::INVALID_VALUE));
        let mut op = product();
        (op.epilogue, op.aux, op.aux_ld) = (130, DevPtr(0x6000), 128);
        assert!(op.check().is_ok());
        op.aux_ld = 64;
        assert_eq!(op.check().err(), Some(BlasStatus::INVALID_VALUE));
        (op.epilogue, op.aux_ld, op.aux_ty) = (160, 8, ty::R_32F);
        assert!(op.check().is_ok());
        op.aux_ld = 12;
        assert_eq!(op.check().err(), Some(BlasStatus::INVALID_VALUE));
    }
}
