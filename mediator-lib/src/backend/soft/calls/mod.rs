//! The bodies of the call table's rows, one file for each section.

mod blas;
mod context;
mod device;
mod event;
mod graph;
mod host_memory;
mod link;
mod memory;
mod module;
mod nvml;
mod order;
mod output;
mod stream;
mod virtual_memory;
