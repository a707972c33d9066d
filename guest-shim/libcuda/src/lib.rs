//! libcuda.so.1 for the guest: the CUDA Driver API over the transport.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | what crosses the C ABI: pointers of the program, the `exports!` macro |
//! | [`handles`] | handles that programs cannot forge or use after destruction |
//! | [`init`] | the driver's state, from cuInit to fork |
//! | [`device`], [`ctx`], [`ctx_events`], [`module`], [`library`], [`func`], [`launch`], [`legacy`], [`peer`], [`mem`], [`memset`], [`copy`], [`copy2d`], [`pointer`], [`stream`], [`event`], [`virtual_memory`] | the calls, by noun |
//! | [`capture`] | stream capture |
//! | [`graph`], [`graph_objects`], [`graph_nodes`], [`graph_params`], [`graph_edges`], [`graph_attributes`], [`graph_memory`], [`copy3d`], [`user_object`] | graphs as programs build them |
//! | [`graph_exec`] | executable graphs |
//! | [`hostfn`], [`memop`] | functions of the program and words of memory in stream order |
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
mod capture;
mod copy;
mod copy2d;
mod copy3d;
mod copy_batch;
mod ctx;
mod ctx_events;
mod device;
mod entry;
mod error;
mod event;
mod func;
mod graph;
mod graph_attributes;
mod graph_edges;
mod graph_exec;
mod graph_memory;
mod graph_nodes;
mod graph_objects;
mod graph_params;
mod handles;
mod host;
mod hostfn;
mod image;
mod init;
mod launch;
mod legacy;
mod library;
mod link;
mod managed;
mod mark;
mod mem;
mod memop;
mod memset;
mod module;
mod occupancy;
mod output;
mod peer;
mod pending;
mod pointer;
mod pool;
mod stream;
mod unsupported;
mod user_object;
mod virtual_memory;

#[cfg(test)]
mod tests;
