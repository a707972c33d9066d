//! Random routines of cuBLAS: sizes, distances and addresses that may be anything.

use vgpu_protocol::blas::ty;
use vgpu_protocol::calls::{
    BlasGemm, BlasId, BlasMatrix, BlasRoutine, BlasScalar, BlasTarget, BlasTrsmBatched, DevPtr,
    LtMatmul, LtMatrix, LtTransform, Routine, StreamId,
};

use super::Guest;

impl Guest {
    /// Small, mostly: a product of large matrices only takes time.
    fn dimension(&mut self) -> i64 {
        let wild = self.long() as i64;
        let small = (self.random.draw() % 7) as i64;
        // Wild numbers of elements lie outside of every allocation, or are negative.
        let wild = if (0..1 << 31).contains(&wild) {
            small
        } else {
            wild
        };
        match self.random.draw() % 16 {
            0 => wild,
            _ => small,
        }
    }

    fn element(&mut self) -> u32 {
        let wild = self.word();
        self.pick(&[
            ty::R_32F,
            ty::R_32F,
            ty::R_64F,
            ty::R_16F,
            ty::C_32F,
            ty::C_64F,
            wild,
        ])
    }

    pub(super) fn blas_id(&mut self) -> BlasId {
        BlasId(self.word() % 4)
    }

    pub(super) fn blas_target(&mut self) -> BlasTarget {
        BlasTarget {
            handle: self.blas_id(),
            stream: StreamId(self.word() % 6),
            math: self.word() & 3,
            atomics: self.word() & 1,
        }
    }

    fn scalar(&mut self) -> BlasScalar {
        let device = match self.random.draw() % 8 {
            0 => self.ptr(),
            _ => DevPtr(0),
        };
        BlasScalar {
            device,
            value: [self.random.draw() as u8; 16],
        }
    }

    fn matrix(&mut self, ty: u32) -> BlasMatrix {
        BlasMatrix {
            at: self.ptr(),
            ty,
            ld: self.dimension() + 4,
            stride: self.dimension(),
        }
    }

    pub(super) fn gemm(&mut self) -> BlasGemm {
        let (wild, ty) = (self.word(), self.element());
        BlasGemm {
            target: self.blas_target(),
            transa: self.word() % 4,
            transb: self.word() % 4,
            m: self.dimension(),
            n: self.dimension(),
            k: self.dimension(),
            alpha: self.scalar(),
            a: self.matrix(ty),
            b: self.matrix(ty),
            beta: self.scalar(),
            c: self.matrix(ty),
            batch: self.dimension(),
            compute: self.pick(&[68, 68, 70, 64, 72, wild]),
            algo: self.word() as i32 % 30,
        }
    }

    pub(super) fn trsm(&mut self) -> BlasTrsmBatched {
        let ty = self.element();
        BlasTrsmBatched {
            target: self.blas_target(),
            side: self.word() % 3,
            uplo: self.word() % 3,
            trans: self.word() % 4,
            diag: self.word() % 3,
            m: self.dimension(),
            n: self.dimension(),
            alpha: self.scalar(),
            a: self.matrix(ty),
            b: self.matrix(ty),
            batch: self.dimension(),
        }
    }

    pub(super) fn routine(&mut self) -> BlasRoutine {
        let (wild, ty) = (self.word(), self.element());
        let known = self.pick(Routine::ALL) as u32;
        BlasRoutine {
            target: self.blas_target(),
            routine: self.pick(&[known, known, known, wild]),
            ty,
            side: self.word() % 3,
            uplo: self.word() % 3,
            transa: self.word() % 4,
            transb: self.word() % 4,
            diag: self.word() % 3,
            m: self.dimension(),
            n: self.dimension(),
            k: self.dimension(),
            ku: self.dimension(),
            alpha: self.scalar(),
            beta: self.scalar(),
            scalars: (ty, ty),
            a: self.matrix(ty),
            b: self.matrix(ty),
            c: self.matrix(ty),
            batch: self.dimension(),
            param: [self.random.draw(); 5],
            result: self.ptr(),
            result_bytes: self.pick(&[4, 8, wild]),
            info: self.ptr(),
        }
    }

    fn lt_matrix(&mut self, ty: u32, rows: i64, cols: i64) -> LtMatrix {
        let wild = self.word();
        LtMatrix {
            at: self.ptr(),
            ty,
            order: self.pick(&[0, 0, 0, 1, wild]),
            rows: rows as u64,
            cols: cols as u64,
            ld: self.dimension() + 6,
            batch: self.pick(&[1, 1, 2, wild]).into(),
            stride: self.dimension(),
            mode: self.pick(&[0, 0, 0, 1, wild]),
        }
    }

    /// Mostly of sizes and types that belong together.
    pub(super) fn lt_matmul(&mut self) -> LtMatmul {
        let (m, n, k) = (self.dimension(), self.dimension(), self.dimension());
        let wild = self.word();
        let (compute, scale, input, output) = self.pick(&[
            (68, ty::R_32F, ty::R_32F, ty::R_32F),
            (68, ty::R_32F, ty::R_16F, ty::R_32F),
            (70, ty::R_64F, ty::R_64F, ty::R_64F),
            (72, ty::R_32I, ty::R_8I, ty::R_32I),
            (72, ty::R_32F, ty::R_8I, ty::R_8I),
            (wild, ty::R_32F, ty::R_32F, ty::R_16F),
        ]);
        LtMatmul {
            stream: StreamId(self.word() % 6),
            compute,
            scale,
            transa: 0,
            transb: self.word() % 4,
            epilogue: self.pick(&[1, 1, 2, 4, 36, 130, 136, 160, 192, 256, wild]),
            alpha: self.scalar(),
            a: self.lt_matrix(input, m, k),
            b: self.lt_matrix(input, k, n),
            beta: self.scalar(),
            c: self.lt_matrix(output, m, n),
            d: self.lt_matrix(output, m, n),
            bias: self.ptr(),
            bias_ty: output,
            bias_stride: self.dimension(),
            aux: self.ptr(),
            aux_ty: output,
            aux_ld: self.pick(&[128, 256, 8]),
            aux_stride: self.pick(&[0, 1024, wild]).into(),
            workspace: self.ptr(),
            workspace_bytes: self.dimension() as u64,
        }
    }

    pub(super) fn lt_transform(&mut self) -> LtTransform {
        let (m, n, ty) = (self.dimension(), self.dimension(), self.element());
        LtTransform {
            stream: StreamId(self.word() % 6),
            scale: self.pick(&[ty::R_32F, ty]),
            transa: 0,
            transb: self.word() % 4,
            alpha: self.scalar(),
            a: self.lt_matrix(ty, m, n),
            beta: self.scalar(),
            b: self.lt_matrix(ty, m, n),
            c: self.lt_matrix(ty::R_32F, m, n),
        }
    }
}
