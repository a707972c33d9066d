//! What the routines of levels 1 to 3 share: a message is filled in, checked and sent.

use vgpu_protocol::calls::{BlasMatrix, BlasRoutine, DevPtr, Level, Routine, stubs};

use crate::abi::{Device, Done, INVALID, In, Out, of_driver};
use crate::channel::remote;
use crate::handle;
use crate::scalar;

/// A message for a routine on elements of one type, with factors of these types.
pub fn new(routine: Routine, ty: u32, scalars: (u32, u32)) -> BlasRoutine {
    let part = || BlasMatrix {
        ty,
        ..BlasMatrix::default()
    };
    BlasRoutine {
        routine: routine as u32,
        ty,
        scalars,
        a: part(),
        b: part(),
        c: part(),
        batch: 1,
        ..BlasRoutine::default()
    }
}

/// A matrix and its leading dimension, or a vector and its increment.
pub fn part(ty: u32, at: Device, ld: i64) -> BlasMatrix {
    BlasMatrix {
        at: at.ptr(),
        ty,
        ld,
        stride: 0,
    }
}

/// Sends a routine. `alpha` and `beta` are what the program gave, `None` where the routine has none.
/// `sizes` are those of which none may be 0 for there to be anything to do.
pub fn send(
    handle: u64,
    mut op: BlasRoutine,
    alpha: Option<In<u8>>,
    beta: Option<In<u8>>,
    sizes: &[i64],
) -> Done {
    let handle = handle::get(handle)?;
    let device = handle.device_pointers();
    let routine = op.check()?;
    if let Some(alpha) = alpha {
        op.alpha = scalar::read(device, alpha, op.scalars.0)?;
    }
    if let Some(beta) = beta {
        op.beta = scalar::read(device, beta, op.scalars.1)?;
    }
    if sizes.contains(&0) {
        return Ok(());
    }
    let remote = remote()?;
    let (place, target) = handle.target(remote)?;
    op.target = target;
    match routine.level() {
        Level::One => stubs::blas_level1(&place, place.ctx, op),
        Level::Two => stubs::blas_level2(&place, place.ctx, op),
        Level::Three => stubs::blas_level3(&place, place.ctx, op),
        Level::Batched => stubs::blas_lapack(&place, place.ctx, op),
        Level::Result => return Err(INVALID),
    }
    .map_err(of_driver)
}

/// Sends a routine with a result, which goes where the handle's pointer mode says.
pub fn result<const N: usize>(handle: u64, mut op: BlasRoutine, out: Out<[u8; N]>) -> Done {
    let handle = handle::get(handle)?;
    op.check()?;
    out.check()?;
    op.result_bytes = N as u32;
    let remote = remote()?;
    let (place, target) = handle.target(remote)?;
    op.target = target;
    if handle.device_pointers() {
        op.result = DevPtr(out.address());
        return stubs::blas_result(&place, place.ctx, op).map_err(of_driver);
    }
    let bytes = stubs::blas_host_result(&place, place.ctx, op)
        .map_err(of_driver)?
        .0;
    // An index may come in fewer bytes than it has here.
    let mut value = [0; N];
    let given = bytes.len().min(N);
    value[..given].copy_from_slice(&bytes[..given]);
    out.set(value)
}
