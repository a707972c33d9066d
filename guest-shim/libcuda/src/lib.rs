//! libcuda.so.1 for the guest: the CUDA Driver API over the transport.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | what crosses the C ABI: pointers of the program, the `exports!` macro |
//! | [`handles`] | handles that programs cannot forge or use after destruction |
//! | [`init`] | the driver's state, from cuInit to fork |
//! | [`device`], [`ctx`], [`module`], [`func`], [`launch`], [`mem`], [`memset`], [`copy`], [`copy2d`], [`pointer`], [`stream`], [`event`] | the calls, by noun |
//! | [`image`] | how long a module image is |
//! | [`occupancy`] | how many blocks fit on a multiprocessor |
//! | [`error`] | names and texts of results |
//! | [`entry`] | cuGetProcAddress |
//! | [`mark`] | by what a host knows this library |
//! | [`unsupported`] | every other name of cuda.h |
//!
//! Each call does what the CUDA Driver API reference says, or returns an error that it documents.
//! Handles and sizes are checked here, before anything is sent.

mod abi;
mod copy;
mod copy2d;
mod ctx;
mod device;
mod entry;
mod error;
mod event;
mod func;
mod handles;
mod image;
mod init;
mod launch;
mod mark;
mod mem;
mod memset;
mod module;
mod occupancy;
mod pointer;
mod stream;
mod unsupported;

#[cfg(test)]
mod tests;
