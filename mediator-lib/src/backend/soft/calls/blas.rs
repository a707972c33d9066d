//! cuBLAS.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::calls::{
    BlasCalls, BlasGemm, BlasId, BlasRoutine, BlasTarget, BlasTrsmBatched, CtxId, DevPtr, Level,
    LtMatmul, LtReady, LtTransform, Routine,
};
use vgpu_protocol::wire::Blob;
use vgpu_soft_blas::Exec;

use super::super::blas::{Batch, BlasEntry, BlasWork, failed};
use super::super::op::Work;
use super::super::routine::RoutineWork;
use super::super::session::SoftSession;

/// A routine that belongs to a row.
fn checked(op: BlasRoutine, level: Level) -> Result<RoutineWork, Status> {
    match Routine::from_wire(op.routine) {
        Some(routine) if routine.level() == level => RoutineWork::new(op),
        _ => Err(Status::ERROR_INVALID_VALUE),
    }
}

impl SoftSession {
    /// The context of a handle, which must be that of its stream.
    fn blas_owner(&self, ctx: CtxId, target: &BlasTarget) -> Result<CtxId, Status> {
        let owner = self.blas.get(target.handle)?.ctx;
        if self.stream_ctx(ctx, target.stream)? != owner {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        Ok(owner)
    }

    fn routine(&mut self, ctx: CtxId, op: BlasRoutine, level: Level) -> Result<(), Status> {
        let target = op.target.clone();
        self.submit_blas(ctx, &target, BlasWork::Routine(checked(op, level)?))
    }

    /// Queues work of a handle on its stream.
    fn submit_blas(
        &mut self,
        ctx: CtxId,
        target: &BlasTarget,
        work: BlasWork,
    ) -> Result<(), Status> {
        self.blas_owner(ctx, target)?;
        self.submit(ctx, target.stream, Work::Blas(Box::new(work)), false)?;
        Ok(())
    }
}

impl BlasCalls for SoftSession {
    fn blas_create(&mut self, ctx: CtxId, handle: BlasId) -> Result<u32, Status> {
        self.current(ctx)?;
        self.blas.add_as(handle, BlasEntry { ctx })?;
        Ok(BlasStatus::SUCCESS.0)
    }

    fn blas_destroy(&mut self, _: CtxId, handle: BlasId) -> Result<(), Status> {
        self.blas.remove(handle)?;
        Ok(())
    }

    /// The routines work in buffers of their threads.
    fn blas_set_workspace(
        &mut self,
        _: CtxId,
        target: BlasTarget,
        _at: DevPtr,
        _bytes: u64,
    ) -> Result<(), Status> {
        self.blas.get(target.handle)?;
        Ok(())
    }

    fn blas_gemm(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.submit_blas(ctx, &op.target, BlasWork::gemm(&op, Batch::One)?)
    }

    fn blas_gemm_batched(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.submit_blas(ctx, &op.target, BlasWork::gemm(&op, Batch::Pointers)?)
    }

    fn blas_gemm_strided(&mut self, ctx: CtxId, op: BlasGemm) -> Result<(), Status> {
        self.submit_blas(ctx, &op.target, BlasWork::gemm(&op, Batch::Strided)?)
    }

    fn blas_trsm_batched(&mut self, ctx: CtxId, op: BlasTrsmBatched) -> Result<(), Status> {
        self.submit_blas(ctx, &op.target, BlasWork::trsm_batched(&op)?)
    }

    fn blas_level1(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, op, Level::One)
    }

    fn blas_level2(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, op, Level::Two)
    }

    fn blas_level3(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, op, Level::Three)
    }

    fn blas_lapack(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        self.routine(ctx, op, Level::Batched)
    }

    fn blas_result(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<(), Status> {
        if op.result.0 == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        self.routine(ctx, op, Level::Result)
    }

    fn blas_lt_create(&mut self, ctx: CtxId) -> Result<LtReady, Status> {
        self.current(ctx)?;
        // The routines work in buffers of their threads.
        Ok(LtReady::default())
    }

    fn blas_lt_matmul(&mut self, ctx: CtxId, op: LtMatmul) -> Result<(), Status> {
        let work = BlasWork::lt_matmul(&op)?;
        self.submit(ctx, op.stream, Work::Blas(Box::new(work)), false)?;
        Ok(())
    }

    fn blas_lt_transform(&mut self, ctx: CtxId, op: LtTransform) -> Result<(), Status> {
        let work = BlasWork::lt_transform(&op)?;
        self.submit(ctx, op.stream, Work::Blas(Box::new(work)), false)?;
        Ok(())
    }

    /// Runs in the calling thread, once the stream has done its work.
    fn blas_host_result(&mut self, ctx: CtxId, op: BlasRoutine) -> Result<Blob, Status> {
        let target = op.target.clone();
        let owner = self.blas_owner(ctx, &target)?;
        let op = BlasRoutine {
            result: DevPtr(0),
            ..op
        };
        let work = checked(op, Level::Result)?;
        self.stream_arrive(ctx, target.stream)?;
        let context = Arc::clone(&self.contexts.get(owner)?.shared);
        let exec = Exec {
            gpu: &self.backend.gpu,
            space: &context.space,
            abort: self.engine.abort(),
        };
        match work.run(&exec) {
            Ok(bytes) => Ok(Blob(bytes)),
            Err(error) => {
                let status = failed(&error);
                context.fail(status);
                Err(status)
            }
        }
    }
}
