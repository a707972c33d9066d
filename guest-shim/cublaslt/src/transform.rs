//! Matrices in another order or type.

use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::{DevPtr, LtMatrix, LtTransform, stubs};

use crate::abi::{Device, INVALID, In, Out, exports, of_driver};
use crate::channel::remote;
use crate::descriptor::{Attribute, Desc, Image, Kind, at};
use crate::handle;
use crate::layout::Layout;
use crate::scalar;

/// `cublasLtMatrixTransformDescOpaque_t`: 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Transform;

const SCALE: usize = 8;
const POINTERS: usize = 12;
const TRANS_A: usize = 16;
const TRANS_B: usize = 20;

impl Kind for Transform {
    const MAGIC: u32 = u32::from_ne_bytes(*b"vLtT");
    const LEAST: usize = 64;
    const ATTRIBUTES: &'static [Attribute] = &[
        at(0, SCALE, 4),
        at(1, POINTERS, 4),
        at(2, TRANS_A, 4),
        at(3, TRANS_B, 4),
    ];
}

fn fill(image: &mut Image, scale: u32) {
    image.set_word(SCALE, scale);
}

exports! {
    /// Makes a descriptor.
    fn cublasLtMatrixTransformDescCreate(out: Out<Desc<Transform>>, scale: u32) {
        Desc::create(out, |image| fill(image, scale))
    }

    /// Initialises a descriptor in the program's memory.
    fn cublasLtMatrixTransformDescInit_internal(desc: Desc<Transform>, bytes: usize, scale: u32) {
        desc.init(bytes, |image| fill(image, scale))
    }

    /// Destroys a descriptor.
    fn cublasLtMatrixTransformDescDestroy(desc: Desc<Transform>) {
        desc.destroy()
    }

    /// Sets an attribute.
    fn cublasLtMatrixTransformDescSetAttribute(desc: Desc<Transform>, which: u32, value: In<u8>, bytes: usize) {
        desc.set(which, value, bytes)
    }

    /// An attribute.
    fn cublasLtMatrixTransformDescGetAttribute(
        desc: Desc<Transform>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        desc.get(which, to, bytes, written)
    }

    /// `C = alpha op(A) + beta op(B)`; B and its layout may be null.
    fn cublasLtMatrixTransform(
        handle: u64, desc: Desc<Transform>, alpha: In<u8>, a: Device, a_layout: Desc<Layout>,
        beta: In<u8>, b: Device, b_layout: Desc<Layout>, c: Device, c_layout: Desc<Layout>, stream: u64,
    ) {
        handle::check(handle)?;
        let image = desc.load()?;
        let device = match image.word(POINTERS) {
            0 => false,
            1 => true,
            2..=4 => return Err(BlasStatus::NOT_SUPPORTED),
            _ => return Err(INVALID),
        };
        let mut op = LtTransform {
            scale: image.word(SCALE),
            transa: image.word(TRANS_A),
            transb: image.word(TRANS_B),
            a: a_layout.matrix(a.ptr())?,
            b: match b.ptr() {
                DevPtr(0) => LtMatrix::default(),
                place => b_layout.matrix(place)?,
            },
            c: c_layout.matrix(c.ptr())?,
            ..LtTransform::default()
        };
        op.check()?;
        op.alpha = scalar::read(device, alpha, op.scale)?;
        if !beta.is_null() || op.b.at.0 != 0 {
            op.beta = scalar::read(device, beta, op.scale)?;
        } else if device {
            // Nothing is multiplied by it; both factors lie in one kind of memory.
            op.beta = op.alpha.clone();
        }
        if op.is_empty() {
            return Ok(());
        }
        if op.a.at.0 == 0 || op.c.at.0 == 0 {
            return Err(INVALID);
        }
        let remote = remote()?;
        let place = handle::place(remote, stream)?;
        handle::ready(remote, place.ctx)?;
        op.stream = place.stream;
        stubs::blas_lt_transform(&place, place.ctx, op).map_err(of_driver)
    }
}
