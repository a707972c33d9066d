//! Descriptors of products.

use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::{DevPtr, LtMatmul};

use crate::abi::{Done, INVALID, In, Out, exports};
use crate::descriptor::{Attribute, Desc, Image, Kind, at};

/// `cublasLtMatmulDescOpaque_t`: 88 bytes in 11.4, 96 in 11.5, 184 from 11.8 on, 256 from 12.2 on.
#[derive(Clone, Copy, Debug)]
pub struct Operation;

const COMPUTE: usize = 8;
const SCALE: usize = 12;
const POINTERS: usize = 16;
const TRANS_A: usize = 20;
const TRANS_B: usize = 24;
const TRANS_C: usize = 28;
const FILL: usize = 32;
const EPILOGUE: usize = 36;
const BIAS: usize = 40;
const BIAS_STRIDE: usize = 48;
const AUX: usize = 56;
const AUX_LD: usize = 64;
const AUX_STRIDE: usize = 72;
const ALPHA_VECTOR_STRIDE: usize = 80;
const AUX_TYPE: usize = 92;
const BIAS_TYPE: usize = 156;
/// Scales of A, B, C and D, the maximum of D, scale and maximum of the auxiliary matrix.
const SCALES: [usize; 8] = [96, 104, 112, 120, 128, 136, 144, 208];
/// How those are meant.
const SCALE_MODES: [usize; 6] = [184, 188, 192, 196, 200, 204];
/// Counters of parts of D.
const COUNTERS: [usize; 2] = [168, 176];
const EMULATION: usize = 216;
const FACTOR_STRIDES: [usize; 2] = [224, 232];

/// `CUBLAS_FILL_MODE_FULL`.
const FULL: u32 = 2;
/// `CUBLASLT_EPILOGUE_DEFAULT`.
const DEFAULT: u32 = 1;
/// The type is that of D.
const AS_D: u32 = u32::MAX;

impl Kind for Operation {
    const MAGIC: u32 = u32::from_ne_bytes(*b"vLtO");
    const LEAST: usize = 88;
    const ATTRIBUTES: &'static [Attribute] = &[
        at(0, COMPUTE, 4),
        at(1, SCALE, 4),
        at(2, POINTERS, 4),
        at(3, TRANS_A, 4),
        at(4, TRANS_B, 4),
        at(5, TRANS_C, 4),
        at(6, FILL, 4),
        at(7, EPILOGUE, 4),
        at(8, BIAS, 8),
        at(10, BIAS_STRIDE, 8),
        at(11, AUX, 8),
        at(12, AUX_LD, 8),
        at(13, AUX_STRIDE, 8),
        at(14, ALPHA_VECTOR_STRIDE, 8),
        // A hint: how many multiprocessors the program wants used.
        at(15, 88, 4),
        at(17, SCALES[0], 8),
        at(18, SCALES[1], 8),
        at(19, SCALES[2], 8),
        at(20, SCALES[3], 8),
        at(21, SCALES[4], 8),
        at(22, AUX_TYPE, 4),
        at(23, SCALES[5], 8),
        at(24, SCALES[6], 8),
        // Fast accumulation, of FP8 only.
        at(25, 152, 1),
        at(26, BIAS_TYPE, 4),
        at(27, 160, 4),
        at(28, 164, 4),
        at(29, COUNTERS[0], 8),
        at(30, COUNTERS[1], 8),
        at(31, SCALE_MODES[0], 4),
        at(32, SCALE_MODES[1], 4),
        at(33, SCALE_MODES[2], 4),
        at(34, SCALE_MODES[3], 4),
        at(35, SCALE_MODES[4], 4),
        at(36, SCALES[7], 8),
        at(37, SCALE_MODES[5], 4),
        at(38, EMULATION, 8),
        at(39, FACTOR_STRIDES[0], 8),
        at(40, FACTOR_STRIDES[1], 8),
        // Flags that only ask for the same results in more cases.
        at(41, 240, 4),
    ];
}

fn fill(image: &mut Image, compute: u32, scale: u32) {
    image.set_word(COMPUTE, compute);
    image.set_word(SCALE, scale);
    image.set_word(FILL, FULL);
    image.set_word(EPILOGUE, DEFAULT);
    image.set_word(AUX_TYPE, AS_D);
    image.set_word(BIAS_TYPE, AS_D);
}

/// Where factors lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointers {
    /// In the program's memory.
    Host,
    /// In device memory.
    Device,
}

impl Desc<Operation> {
    /// What it says of a product; the matrices of `op` are set before.
    pub fn apply(self, op: &mut LtMatmul) -> Done<Pointers> {
        let image = self.load()?;
        op.compute = image.word(COMPUTE);
        op.scale = image.word(SCALE);
        op.transa = image.word(TRANS_A);
        op.transb = image.word(TRANS_B);
        op.epilogue = image.word(EPILOGUE);
        let own = |number: u32| if number == AS_D { op.d.ty } else { number };
        // Of a struct that is too short for it, too.
        let short = |offset: usize| match image.word(offset) {
            0 if image.word(4) as usize <= offset => AS_D,
            number => number,
        };
        op.bias_ty = own(short(BIAS_TYPE));
        op.aux_ty = own(short(AUX_TYPE));
        op.bias = DevPtr(image.long(BIAS));
        op.bias_stride = image.long(BIAS_STRIDE) as i64;
        op.aux = DevPtr(image.long(AUX));
        op.aux_ld = image.long(AUX_LD) as i64;
        op.aux_stride = image.long(AUX_STRIDE) as i64;
        // "If set for an unsupported matrix data, scale, and compute type combination, … INVALID_VALUE":
        // only products of FP8 have them, of which there are none here.
        if SCALES.iter().any(|offset| image.long(*offset) != 0) {
            return Err(INVALID);
        }
        let unsupported = image.word(TRANS_C) != 0
            || image.word(FILL) != FULL
            || SCALE_MODES.iter().any(|offset| image.word(*offset) != 0)
            || COUNTERS.iter().any(|offset| image.long(*offset) != 0)
            || FACTOR_STRIDES.iter().any(|offset| image.long(*offset) != 0)
            || image.long(EMULATION) != 0;
        if unsupported {
            return Err(BlasStatus::NOT_SUPPORTED);
        }
        match image.word(POINTERS) {
            0 => Ok(Pointers::Host),
            1 => Ok(Pointers::Device),
            // Vectors of factors.
            2..=4 => Err(BlasStatus::NOT_SUPPORTED),
            _ => Err(INVALID),
        }
    }
}

exports! {
    /// Makes a descriptor.
    fn cublasLtMatmulDescCreate(out: Out<Desc<Operation>>, compute: u32, scale: u32) {
        Desc::create(out, |image| fill(image, compute, scale))
    }

    /// Initialises a descriptor in the program's memory.
    fn cublasLtMatmulDescInit_internal(desc: Desc<Operation>, bytes: usize, compute: u32, scale: u32) {
        desc.init(bytes, |image| fill(image, compute, scale))
    }

    /// Destroys a descriptor.
    fn cublasLtMatmulDescDestroy(desc: Desc<Operation>) {
        desc.destroy()
    }

    /// Sets an attribute.
    fn cublasLtMatmulDescSetAttribute(desc: Desc<Operation>, which: u32, value: In<u8>, bytes: usize) {
        desc.set(which, value, bytes)
    }

    /// An attribute.
    fn cublasLtMatmulDescGetAttribute(
        desc: Desc<Operation>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        desc.get(which, to, bytes, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpu_protocol::blas::ty;

    #[test]
    fn attributes_lie_beside_each_other() {
        let mut all: Vec<_> = Operation::ATTRIBUTES.iter().collect();
        all.sort_by_key(|a| a.offset);
        for pair in all.windows(2) {
            assert!(pair[0].offset + pair[0].bytes <= pair[1].offset, "{pair:?}");
        }
        assert!(all.iter().all(|a| a.offset % a.bytes == 0 && a.offset >= 8));
    }

    #[test]
    fn a_short_struct_has_the_attributes_of_its_version() {
        let mut memory = [u64::MAX; 12];
        let desc = Desc::<Operation>::inside(&mut memory);
        assert!(desc.init(80, |image| fill(image, 68, 0)).is_err());
        assert!(desc.init(88, |image| fill(image, 68, 0)).is_ok());
        assert_eq!(memory[11], u64::MAX, "nothing is written behind the struct");
        let desc = Desc::<Operation>::inside(&mut memory);
        let mut op = LtMatmul::default();
        op.d.ty = ty::R_16F;
        assert_eq!(desc.apply(&mut op), Ok(Pointers::Host));
        assert_eq!(
            (op.compute, op.bias_ty, op.aux_ty),
            (68, ty::R_16F, ty::R_16F)
        );
    }
}
