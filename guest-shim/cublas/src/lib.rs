//! libcublas.so.11, .12 and .13 for the guest: the cuBLAS library over libcuda's channel.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | what crosses the C ABI, the `exports!` macro |
//! | [`handle`] | handles: created, destroyed, their modes |
//! | [`scalar`] | `alpha` and `beta`, in host or device memory |
//! | [`gemm`] | the gemm family |
//! | [`level1`], [`level2`], [`level3`] | the other routines; [`routine`] is what they share |
//! | [`ex`] | those whose types are arguments |
//! | [`gemv`], [`grouped`] | batches of products with vectors, groups of batches of products |
//! | [`rotation`] | rotations, which are made from numbers |
//! | [`trsm`], [`lapack`] | batches of small systems |
//! | [`transfer`] | vectors and matrices between host and device |
//! | [`library`] | what belongs to no handle, with [`version`] and [`status`] |
//! | [`logger`] | the library's log |
//! | [`channel`] | the way to the host |
//! | [`unsupported`] | every other name of the library |
//!
//! A call checks its arguments as the documentation of cuBLAS says, and is one message to the host,
//! which is not waited for where the result lies in device memory.

mod abi;
mod channel;
mod ex;
mod gemm;
mod gemv;
mod grouped;
mod handle;
mod lapack;
mod level1;
mod level2;
mod level3;
mod library;
mod logger;
mod rotation;
mod routine;
mod scalar;
mod status;
mod transfer;
mod trsm;
mod unsupported;
mod version;
