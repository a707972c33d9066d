//! libcublasLt.so.11, .12 and .13 for the guest: cuBLAS's library of products with descriptors, over
//! libcuda's channel.
//!
//! | module | holds |
//! |---|---|
//! | [`descriptor`] | the opaque structs of the program, and their attributes |
//! | [`layout`], [`operation`], [`preference`] | descriptors of matrices, of products and of what is wanted of an algorithm |
//! | [`algorithm`] | algorithms: there is one, and the host chooses for itself |
//! | [`matmul`] | the product |
//! | [`transform`] | matrices in another order or type |
//! | [`handle`] | handles, of which those of cuBLAS are some |
//! | [`logger`] | the library's log |
//! | [`library`] | versions, names of results |
//! | [`unsupported`] | every other name of the library |
//!
//! What has no meaning beyond cuBLAS's own is shared with `guest-shim/cublas`, file by file.

#[path = "../../cublas/src/abi.rs"]
#[allow(dead_code, reason = "some of it is for the other library")]
mod abi;
mod algorithm;
#[path = "../../cublas/src/channel.rs"]
mod channel;
mod descriptor;
mod handle;
mod layout;
mod library;
mod logger;
mod matmul;
mod operation;
mod preference;
#[path = "../../cublas/src/scalar.rs"]
mod scalar;
#[path = "../../cublas/src/status.rs"]
mod status;
mod transform;
#[path = "../../cublas/src/unsupported.rs"]
mod unsupported;
#[path = "../../cublas/src/version.rs"]
mod version;
