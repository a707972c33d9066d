//! What cublasLt does with each element of a product before it is stored.
#![allow(unsafe_code)] // The bits of ReLU are written through raw pointers into device memory.

use vgpu_soft_gpu::AddressSpace;

use crate::exec::BlasError;
use crate::matrix::{Matrix, View};
use crate::num::Num;

/// A function of each element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// The element itself.
    None,
    /// `max(x, 0)`; a NaN stays one.
    Relu,
    /// `x Φ(x)`, approximated by tanh as cuBLAS does.
    Gelu,
    /// The element where the bits of ReLU are set, else 0.
    ReluGradient,
    /// The element times the derivative of GELU at the inputs that were kept.
    GeluGradient,
}

/// An epilogue (`cublasLtEpilogue_t`).
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// A vector with an element for each row, which is added.
    pub bias: Option<Matrix>,
    /// What comes then.
    pub activation: Activation,
    /// What the activation keeps for a gradient, or a gradient reads: of ReLU bits, as a matrix of bytes;
    /// of GELU its inputs.
    pub aux: Option<Matrix>,
}

/// An epilogue for the rows of a tile, with its memory found.
pub(crate) struct Ready<T> {
    bias: Option<Vec<T>>,
    activation: Activation,
    aux: Option<View<T>>,
}

impl Finish {
    /// Nothing.
    pub const NONE: Finish = Finish {
        bias: None,
        activation: Activation::None,
        aux: None,
    };

    /// True where elements are stored as they are.
    pub fn is_nothing(&self) -> bool {
        self.bias.is_none() && self.activation == Activation::None
    }

    /// Finds the memory for `rows` rows from row `i` on, of the matrix with this number.
    pub(crate) fn ready<T: Num>(
        &self,
        space: &AddressSpace,
        matrix: u64,
        i: u64,
        rows: u64,
    ) -> Result<Ready<T>, BlasError> {
        let bias = match self.bias {
            None => None,
            Some(bias) => {
                let mut values = vec![T::ZERO; rows as usize];
                bias.resolve::<T>(space, matrix)?
                    .get_column(i, 0, &mut values);
                Some(values)
            }
        };
        let known = match (self.activation, self.aux) {
            (Activation::Gelu, Some(aux)) => T::writes(aux.ty),
            (Activation::GeluGradient, Some(aux)) => T::reads(aux.ty),
            (Activation::ReluGradient | Activation::GeluGradient, None) => false,
            _ => true,
        };
        if !known || T::COMPLEX && !self.is_nothing() {
            return Err(BlasError::Unsupported("this epilogue for these types"));
        }
        let aux = self.aux.map(|aux| aux.view(space, matrix)).transpose()?;
        Ok(Ready {
            bias,
            activation: self.activation,
            aux,
        })
    }
}

/// √(2/π) and the factor of the cube, of the approximation with tanh.
const GELU: (f64, f64) = (0.797_884_560_802_865_4, 0.044_715);

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + (GELU.0 * (x + GELU.1 * x * x * x)).tanh())
}

fn gelu_derivative(x: f64) -> f64 {
    let t = (GELU.0 * (x + GELU.1 * x * x * x)).tanh();
    let inner = GELU.0 * (1.0 + 3.0 * GELU.1 * x * x);
    0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner
}

fn relu<T: Num>(value: T) -> T {
    if value.parts().0 <= 0.0 {
        T::ZERO
    } else {
        value
    }
}

impl<T: Num> Ready<T> {
    /// Finishes elements of column `j`, of which the first is in row `i`: that of the tile, a multiple
    /// of eight.
    pub(crate) fn apply(&self, i: u64, j: u64, column: &mut [T]) {
        if let Some(bias) = &self.bias {
            for (value, bias) in column.iter_mut().zip(bias) {
                *value = *value + *bias;
            }
        }
        match self.activation {
            Activation::None => {}
            Activation::Relu => {
                for (part, eight) in column.chunks_mut(8).enumerate() {
                    let mut bits = 0u8;
                    for (bit, value) in eight.iter_mut().enumerate() {
                        *value = relu(*value);
                        bits |= u8::from(value.parts().0 > 0.0) << bit;
                    }
                    if let Some(at) = self.byte(i / 8 + part as u64, j) {
                        // SAFETY: `view` checked the matrix of bytes, of which this is one: it has a row
                        // for each eight rows of the product.
                        unsafe { at.write(bits) };
                    }
                }
            }
            Activation::ReluGradient => {
                for (part, eight) in column.chunks_mut(8).enumerate() {
                    // SAFETY: as above.
                    let bits = self
                        .byte(i / 8 + part as u64, j)
                        .map_or(0, |at| unsafe { at.read() });
                    for (bit, value) in eight.iter_mut().enumerate() {
                        if bits >> bit & 1 == 0 {
                            *value = T::ZERO;
                        }
                    }
                }
            }
            Activation::Gelu => {
                if let Some(aux) = &self.aux {
                    aux.set_column(i, j, column);
                }
                for value in column {
                    *value = T::of(gelu(value.parts().0), 0.0);
                }
            }
            Activation::GeluGradient => {
                let Some(aux) = &self.aux else { return };
                for (row, value) in column.iter_mut().enumerate() {
                    let input = aux.get(i + row as u64, j).parts().0;
                    *value = T::of(value.parts().0 * gelu_derivative(input), 0.0);
                }
            }
        }
    }

    fn byte(&self, i: u64, j: u64) -> Option<*mut u8> {
        self.aux.as_ref()?.address(i, j)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_and_its_derivative_agree() {
        for x in [-4.0, -1.3, -0.2, 0.0, 0.7, 2.5, 6.0] {
            let step = 1e-6;
            let slope = (gelu(x + step) - gelu(x - step)) / (2.0 * step);
            assert!((slope - gelu_derivative(x)).abs() < 1e-8, "at {x}");
        }
        // Φ(1) = 0.841345: the approximation is right to some thousandths.
        assert!((gelu(1.0) - 0.841_345).abs() < 1e-3);
    }
}
