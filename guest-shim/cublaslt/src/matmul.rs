//! The product.

use vgpu_protocol::calls::{LtMatmul, stubs};

use crate::abi::{Device, Done, INVALID, In, exports, of_driver};
use crate::algorithm::Algorithm;
use crate::channel::remote;
use crate::descriptor::Desc;
use crate::handle;
use crate::layout::Layout;
use crate::operation::{Operation, Pointers};
use crate::scalar;

/// Alignment that the documentation asks of a workspace, in bytes.
const WORKSPACE_ALIGN: u64 = 16;

/// A product by its descriptors, without its factors; not checked.
pub fn describe(
    operation: Desc<Operation>,
    [a, b, c, d]: [Desc<Layout>; 4],
    at: [Device; 4],
) -> Done<(LtMatmul, Pointers)> {
    let mut op = LtMatmul {
        a: a.matrix(at[0].ptr())?,
        b: b.matrix(at[1].ptr())?,
        c: c.matrix(at[2].ptr())?,
        d: d.matrix(at[3].ptr())?,
        ..LtMatmul::default()
    };
    let pointers = operation.apply(&mut op)?;
    Ok((op, pointers))
}

exports! {
    /// `D = epilogue(alpha op(A) op(B) + beta C)`.
    fn cublasLtMatmul(
        handle: u64, operation: Desc<Operation>, alpha: In<u8>, a: Device, a_layout: Desc<Layout>,
        b: Device, b_layout: Desc<Layout>, beta: In<u8>, c: Device, c_layout: Desc<Layout>,
        d: Device, d_layout: Desc<Layout>, algorithm: Desc<Algorithm>, workspace: Device, bytes: usize, stream: u64,
    ) {
        handle::check(handle)?;
        let layouts = [a_layout, b_layout, c_layout, d_layout];
        let (mut op, pointers) = describe(operation, layouts, [a, b, c, d])?;
        if alpha.is_null() || beta.is_null() {
            return Err(INVALID);
        }
        op.check()?;
        if !algorithm.is_null() {
            algorithm.require(&op)?;
        }
        let place = workspace.ptr();
        if bytes > 0 && (place.0 == 0 || !place.0.is_multiple_of(WORKSPACE_ALIGN)) {
            return Err(INVALID);
        }
        let device = pointers == Pointers::Device;
        op.alpha = scalar::read(device, alpha, op.scale)?;
        op.beta = scalar::read(device, beta, op.scale)?;
        if op.is_empty() {
            return Ok(());
        }
        let unread = !device && op.beta.value.iter().all(|byte| *byte == 0);
        let missing = [op.a.at.0, op.b.at.0, op.d.at.0].contains(&0);
        if missing || op.c.at.0 == 0 && !unread {
            return Err(INVALID);
        }
        (op.workspace, op.workspace_bytes) = (place, bytes as u64);
        let remote = remote()?;
        let place = handle::place(remote, stream)?;
        handle::ready(remote, place.ctx)?;
        op.stream = place.stream;
        stubs::blas_lt_matmul(&place, place.ctx, op).map_err(of_driver)
    }
}
