//! cuBLAS.

use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, type_bytes};
use vgpu_protocol::calls::{
    BlasCalls, BlasGemm, BlasId, BlasRoutine, BlasTarget, BlasTrsmBatched, CtxId, DevPtr, Level,
    LtMatmul, LtReady, LtTransform,
};
use vgpu_protocol::limits::MAX_BLAS_HANDLES;
use vgpu_protocol::wire::Blob;

use super::super::blas::{BlasEntry, refused};
use super::super::session::CudaSession;
use super::super::sys::blas::{Batch, Gemm, Handle};

impl CudaSession {
    fn gemm(&mut self, ctx: CtxId, op: &BlasGemm, batch: Batch) -> Result<(), Status> {
        let kind = op.check().map_err(refused)?;
        let owner = self.owner(ctx, op.target.stream)?;
        let count = if batch == Batch::One { 1 } else { op.batch };
        if op.m == 0 || op.n == 0 || count == 0 {
            return Ok(());
        }
        self.require_gemm(owner, op, batch == Batch::Pointers, count)?;
        let bytes = type_bytes(kind.scale_type(op.c.ty)).ok_or(Status::ERROR_INVALID_VALUE)?;
        let alpha = self.factor(owner, &op.alpha, bytes)?;
        let beta = self.factor(owner, &op.beta, bytes)?;
        let gemm = Gemm {
            op,
            batch,
            alpha,
            beta,
        };
        self.with_blas(ctx, &op.target, |handle, stream| handle.gemm(stream, &gemm))
    }
}

impl BlasCalls for CudaSession {
    fn blas_create(&mut self, ctx: CtxId, handle: BlasId) -> Result<u32, Status> {
        let entry = self.current(ctx)?;
        if self.objects.blas.len() >= MAX_BLAS_HANDLES {
            return Ok(BlasStatus::ALLOC_FAILED.0);
        }
        let Some(library) = self.backend.blas.get() else {
            return Ok(BlasStatus::NOT_INITIALIZED.0);
        };
        match Handle::create(library, &entry.ctx) {
            Ok(created) => {
                let handle_of = Some(created);
                self.objects.blas.add_as(
                    handle,
                    BlasEntry {
                        ctx,
                        handle: handle_of,
                    },
                )?;
                Ok(BlasStatus::SUCCESS.0)
            }
            Err(status) => Ok(status.0),
        }
    }

    fn blas_destroy(&mut self, _: CtxId, handle: BlasId) -> Result<(), Status> {
        // The library would wait for the work of the handle, in a way that cannot be ended.
        let ctx = self.objects.blas.get(handle)?.ctx;
        self.settle(ctx)?;
        drop(self.objects.blas.remove(handle)?);
        Ok(())
    }

    fn blas_set_workspace(
        &mut self,
        _: CtxId,
        target: BlasTarget,
        at: DevPtr,
        bytes: u64,
    ) -> Result<(), Status> {
        let owner = self.objects.blas.get(target.handle)?.ctx;
        let memory = self.range(owner, at, bytes)?;
        self.with_blas(owner, &target, |handle, stream| {
            handle.set_workspace(stream, memory)
        })
    }

    fn blas_gemm(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.gemm(ctx, &op, Batch::One)
    }

    fn blas_gemm_batched(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.gemm(ctx, &op, Batch::Pointers)
    }

    fn blas_gemm_strided(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.gemm(ctx, &op, Batch::Strided)
    }

    fn blas_trsm_batched(&mut self, ctx: CtxId, op: BlasTrsmBatched) -> Result<(), Status> {
        op.check().map_err(refused)?;
        let owner = self.owner(ctx, op.target.stream)?;
        if op.m == 0 || op.n == 0 || op.batch == 0 {
            return Ok(());
        }
        self.require_pointers(owner, &op.a, op.batch)?;
        self.require_pointers(owner, &op.b, op.batch)?;
        let bytes = type_bytes(op.a.ty).ok_or(Status::ERROR_INVALID_VALUE)?;
        let alpha = self.factor(owner, &op.alpha, bytes)?;
        self.with_blas(ctx, &op.target, |handle, stream| {
            handle.trsm_batched(stream, &op, &alpha)
        })
    }

    fn blas_level1(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, &op, Level::One).map(|_| ())
    }

    fn blas_level2(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, &op, Level::Two).map(|_| ())
    }

    fn blas_level3(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, &op, Level::Three).map(|_| ())
    }

    fn blas_lapack(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, &op, Level::Batched).map(|_| ())
    }

    fn blas_result(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        if op.result.0 == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.routine(ctx, &op, Level::Result).map(|_| ())
    }

    fn blas_lt_create(&mut self, ctx: CtxId) -> Result<LtReady, Status> {
        self.lt_ready(ctx)
    }

    fn blas_lt_matmul(&mut self, ctx: CtxId, op: LtMatmul) -> Result<(), Status> {
        self.lt_matmul(ctx, &op)
    }

    fn blas_lt_transform(&mut self, ctx: CtxId, op: LtTransform) -> Result<(), Status> {
        self.lt_transform(ctx, &op)
    }

    /// The library waits for its own short work; what was submitted before is waited for here, where
    /// the wait can be ended.
    fn blas_host_result(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<Blob, Status> {
        let owner = self.owner(ctx, op.target.stream)?;
        let op = BlasRoutine {
            result: DevPtr(0),
            ..op
        };
        self.wait_for_stream(owner, op.target.stream)?;
        self.routine(ctx, &op, Level::Result).map(Blob)
    }
}
