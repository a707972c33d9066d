//! What the calls of cublasLt carry. Numbers are those of `cublasLt.h`.

use super::{BlasScalar, DevPtr, StreamId};
use crate::wire_struct;

wire_struct! {
    /// A matrix, or a batch of matrices: its layout (`cublasLtMatrixLayout_t`) and where it lies.
    LtMatrix {
        /// Its first element; of a batch of pointers, the array of pointers in device memory.
        at: DevPtr,
        /// `cudaDataType` of its elements.
        ty: u32,
        /// `cublasLtOrder_t`: 0 column by column, 1 row by row.
        order: u32,
        /// Rows.
        rows: u64,
        /// Columns.
        cols: u64,
        /// Elements from one column (or row) to the next.
        ld: i64,
        /// Number of matrices.
        batch: i64,
        /// Elements from one matrix to the next.
        stride: i64,
        /// `cublasLtBatchMode_t`: 0 at fixed distances, 1 by pointers.
        mode: u32,
    }
    /// `D = epilogue(alpha op(A) op(B) + beta C)`.
    LtMatmul {
        /// Where it is executed.
        stream: StreamId,
        /// `cublasComputeType_t`.
        compute: u32,
        /// `cudaDataType` of the factors.
        scale: u32,
        /// `cublasOperation_t` of A.
        transa: u32,
        /// `cublasOperation_t` of B.
        transb: u32,
        /// `cublasLtEpilogue_t`.
        epilogue: u32,
        /// Factor of the product.
        alpha: BlasScalar,
        /// A.
        a: LtMatrix,
        /// B.
        b: LtMatrix,
        /// Factor of C.
        beta: BlasScalar,
        /// C.
        c: LtMatrix,
        /// D, which may be C.
        d: LtMatrix,
        /// The bias: a vector with an element for each row of D.
        bias: DevPtr,
        /// `cudaDataType` of its elements.
        bias_ty: u32,
        /// Elements from one matrix's bias to the next one's.
        bias_stride: i64,
        /// The epilogue's own matrix: bits of ReLU, inputs of GELU.
        aux: DevPtr,
        /// `cudaDataType` of its elements, where they are no bits.
        aux_ty: u32,
        /// Elements or bits from one of its columns to the next.
        aux_ld: i64,
        /// Elements or bits from one of its matrices to the next.
        aux_stride: i64,
        /// The program's workspace.
        workspace: DevPtr,
        /// Its length.
        workspace_bytes: u64,
    }
    /// `C = alpha op(A) + beta op(B)`, with other orders and types.
    LtTransform {
        /// Where it is executed.
        stream: StreamId,
        /// `cudaDataType` of the factors.
        scale: u32,
        /// `cublasOperation_t` of A.
        transa: u32,
        /// `cublasOperation_t` of B.
        transb: u32,
        /// Factor of A.
        alpha: BlasScalar,
        /// A.
        a: LtMatrix,
        /// Factor of B.
        beta: BlasScalar,
        /// B; without an address where there is none.
        b: LtMatrix,
        /// C.
        c: LtMatrix,
    }
    /// Answer to `cublasLtCreate`.
    LtReady {
        /// `cublasStatus_t`.
        status: u32,
        /// Workspace that a product can make use of, in bytes.
        workspace_bytes: u64,
    }
}
