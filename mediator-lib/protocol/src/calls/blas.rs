//! What the calls of cuBLAS carry.
//!
//! Numbers are those of `cublas_api.h` and `library_types.h`: `cudaDataType` for types,
//! `cublasOperation_t` and so on for the rest. Matrices are column-major, as in the library.

use super::{DevPtr, StreamId};
use crate::{wire_ids, wire_struct};

wire_ids! {
    /// A cuBLAS handle, named by the guest; never 0.
    BlasId(u32);
}

wire_struct! {
    /// Where a call of cuBLAS goes: the state of its handle that matters to it.
    BlasTarget {
        /// The handle.
        handle: BlasId,
        /// Its stream (`cublasSetStream`).
        stream: StreamId,
        /// Its `cublasMath_t` (`cublasSetMathMode`).
        math: u32,
        /// Its `cublasAtomicsMode_t` (`cublasSetAtomicsMode`).
        atomics: u32,
    }
    /// `alpha`, `beta` and the like.
    BlasScalar {
        /// Where it lies, with `CUBLAS_POINTER_MODE_DEVICE`; else 0.
        device: DevPtr,
        /// Its bytes in the type that the function documents, with `CUBLAS_POINTER_MODE_HOST`.
        value: [u8; 16],
    }
    /// A matrix, or a batch of matrices.
    BlasMatrix {
        /// Its first element; of a batch of pointers, the array of pointers in device memory.
        at: DevPtr,
        /// `cudaDataType` of its elements.
        ty: u32,
        /// Leading dimension, in elements.
        ld: i64,
        /// Distance between the matrices of a strided batch, in elements.
        stride: i64,
    }
    /// `C = alpha op(A) op(B) + beta C`, once or for each matrix of a batch. `cublasSgemm` and the like
    /// are `cublasGemmEx` with their types.
    BlasGemm {
        /// Handle and stream.
        target: BlasTarget,
        /// `cublasOperation_t` of A.
        transa: u32,
        /// `cublasOperation_t` of B.
        transb: u32,
        /// Rows of op(A) and C.
        m: i64,
        /// Columns of op(B) and C.
        n: i64,
        /// Columns of op(A), rows of op(B).
        k: i64,
        /// Factor of the product.
        alpha: BlasScalar,
        /// A.
        a: BlasMatrix,
        /// B.
        b: BlasMatrix,
        /// Factor of the old C.
        beta: BlasScalar,
        /// C.
        c: BlasMatrix,
        /// Number of matrices; 1 where the function has no batch.
        batch: i64,
        /// `cublasComputeType_t`.
        compute: u32,
        /// `cublasGemmAlgo_t`.
        algo: i32,
    }
    /// Solves `op(A) X = alpha B` or `X op(A) = alpha B` for each matrix of a batch of pointers.
    BlasTrsmBatched {
        /// Handle and stream.
        target: BlasTarget,
        /// `cublasSideMode_t`: 0 left, 1 right.
        side: u32,
        /// `cublasFillMode_t`: 0 lower, 1 upper.
        uplo: u32,
        /// `cublasOperation_t` of A.
        trans: u32,
        /// `cublasDiagType_t`: 1 unit.
        diag: u32,
        /// Rows of B.
        m: i64,
        /// Columns of B.
        n: i64,
        /// Factor of B.
        alpha: BlasScalar,
        /// A.
        a: BlasMatrix,
        /// B, which becomes X.
        b: BlasMatrix,
        /// Number of matrices.
        batch: i64,
    }
    /// A routine of levels 1 to 3, or of a batch, other than a product. Which fields it uses says its
    /// [`Routine`]; the others are 0.
    BlasRoutine {
        /// Handle and stream.
        target: BlasTarget,
        /// A [`Routine`] as a number.
        routine: u32,
        /// `cudaDataType` of the routine: S, D, C or Z.
        ty: u32,
        /// `cublasSideMode_t`: 0 left, 1 right.
        side: u32,
        /// `cublasFillMode_t`: 0 lower, 1 upper.
        uplo: u32,
        /// `cublasOperation_t` of A.
        transa: u32,
        /// `cublasOperation_t` of B; of a rank-1 update and a dot product 2 where y or x is conjugated.
        transb: u32,
        /// `cublasDiagType_t`: 1 unit.
        diag: u32,
        /// Rows.
        m: i64,
        /// Columns, or elements of a vector.
        n: i64,
        /// Inner size, or diagonals of a band (below the main one where there are two numbers).
        k: i64,
        /// Diagonals of a band above the main one.
        ku: i64,
        /// First factor. Of a rotation the cosine, of a modified one the address of its parameters.
        alpha: BlasScalar,
        /// Second factor. Of a rotation the sine.
        beta: BlasScalar,
        /// `cudaDataType` of the two factors.
        scalars: (u32, u32),
        /// A, or x where there is no A. Of a vector the leading dimension is the increment.
        a: BlasMatrix,
        /// B, or x, or y where there is no A.
        b: BlasMatrix,
        /// C, or y.
        c: BlasMatrix,
        /// Number of matrices.
        batch: i64,
        /// Parameters of a modified rotation, with `CUBLAS_POINTER_MODE_HOST`: five elements.
        param: [u64; 5],
        /// Where a result goes, with `CUBLAS_POINTER_MODE_DEVICE`; pivots of a factorisation.
        result: DevPtr,
        /// Size of an integer result in bytes: 4 or 8.
        result_bytes: u32,
        /// What a factorisation or an inversion says of each matrix (device memory).
        info: DevPtr,
    }
}

macro_rules! routines {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $level:ident;)*) => {
        /// Routines, by the names of the library without type and version.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Routine { $($(#[$doc])* $name = $number,)* }

        impl Routine {
            /// The routine with this number.
            pub fn from_wire(number: u32) -> Option<Routine> {
                match number { $($number => Some(Routine::$name),)* _ => None }
            }

            /// The row by which it is sent.
            pub fn level(self) -> Level {
                match self { $(Routine::$name => Level::$level,)* }
            }

            /// All of them.
            pub const ALL: &[Routine] = &[$(Routine::$name,)*];
        }
    };
}

/// Which row carries a routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Vectors.
    One,
    /// Vectors, with a result.
    Result,
    /// A matrix and vectors.
    Two,
    /// Matrices.
    Three,
    /// Factorisations of batches of small matrices.
    Batched,
}

routines! {
    /// `y = alpha x + y`.
    Axpy = 1, One;
    /// `y = x`.
    Copy = 2, One;
    /// Exchanges x and y.
    Swap = 3, One;
    /// `x = alpha x`.
    Scal = 4, One;
    /// A rotation of x and y.
    Rot = 5, One;
    /// A modified rotation.
    Rotm = 6, One;
    /// The dot product.
    Dot = 10, Result;
    /// The Euclidean norm.
    Nrm2 = 11, Result;
    /// The sum of magnitudes.
    Asum = 12, Result;
    /// The first index of the greatest magnitude, from 1.
    Amax = 13, Result;
    /// The first index of the least magnitude, from 1.
    Amin = 14, Result;
    /// `y = alpha op(A) x + beta y`.
    Gemv = 20, Two;
    /// The same with a band matrix.
    Gbmv = 21, Two;
    /// `A = alpha x yᵀ + A`.
    Ger = 22, Two;
    /// A product with a symmetric matrix.
    Symv = 23, Two;
    /// With a Hermitian one.
    Hemv = 24, Two;
    /// With a symmetric band matrix.
    Sbmv = 25, Two;
    /// With a Hermitian band matrix.
    Hbmv = 26, Two;
    /// With a packed symmetric matrix.
    Spmv = 27, Two;
    /// With a packed Hermitian matrix.
    Hpmv = 28, Two;
    /// `A = alpha x xᵀ + A`, symmetric.
    Syr = 29, Two;
    /// `A = alpha x xᴴ + A`, Hermitian.
    Her = 30, Two;
    /// `A = alpha (x yᵀ + y xᵀ) + A`, symmetric.
    Syr2 = 31, Two;
    /// `A = alpha x yᴴ + conj(alpha) y xᴴ + A`, Hermitian.
    Her2 = 32, Two;
    /// [`Routine::Syr`], packed.
    Spr = 33, Two;
    /// [`Routine::Her`], packed.
    Hpr = 34, Two;
    /// [`Routine::Syr2`], packed.
    Spr2 = 35, Two;
    /// [`Routine::Her2`], packed.
    Hpr2 = 36, Two;
    /// `x = op(A) x` with a triangular matrix.
    Trmv = 37, Two;
    /// With a triangular band matrix.
    Tbmv = 38, Two;
    /// With a packed triangular matrix.
    Tpmv = 39, Two;
    /// Solves `op(A) x = b`.
    Trsv = 40, Two;
    /// With a triangular band matrix.
    Tbsv = 41, Two;
    /// With a packed triangular matrix.
    Tpsv = 42, Two;
    /// `C = alpha A B + beta C` with a symmetric A, on either side.
    Symm = 50, Three;
    /// With a Hermitian A.
    Hemm = 51, Three;
    /// `C = alpha op(A) op(A)ᵀ + beta C`.
    Syrk = 52, Three;
    /// `C = alpha op(A) op(A)ᴴ + beta C`.
    Herk = 53, Three;
    /// `C = alpha (op(A) op(B)ᵀ + op(B) op(A)ᵀ) + beta C`.
    Syr2k = 54, Three;
    /// `C = alpha op(A) op(B)ᴴ + conj(alpha) op(B) op(A)ᴴ + beta C`.
    Her2k = 55, Three;
    /// `C = alpha op(A) op(B)ᵀ + beta C` where the result is symmetric.
    Syrkx = 56, Three;
    /// `C = alpha op(A) op(B)ᴴ + beta C` where the result is Hermitian.
    Herkx = 57, Three;
    /// `C = alpha op(A) B` with a triangular A, on either side.
    Trmm = 58, Three;
    /// Solves `op(A) X = alpha B` or `X op(A) = alpha B`.
    Trsm = 59, Three;
    /// `C = alpha op(A) + beta op(B)`.
    Geam = 60, Three;
    /// `C = A diag(x)` or `C = diag(x) A`.
    Dgmm = 61, Three;
    /// [`Routine::Gemv`] for arrays of addresses.
    GemvBatched = 62, Three;
    /// [`Routine::Gemv`] for matrices at fixed distances.
    GemvStridedBatched = 63, Three;
    /// LU factorisation.
    GetrfBatched = 70, Batched;
    /// Solves with a factorisation.
    GetrsBatched = 71, Batched;
    /// Inverts with a factorisation.
    GetriBatched = 72, Batched;
    /// Inverts.
    MatinvBatched = 73, Batched;
}
