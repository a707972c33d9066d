//! How the guest's other libraries send calls.
//!
//! All libraries of a process share the one channel that libcuda.so.1 has claimed, so that their
//! calls keep the program's order. libcuda exports a [`table::ShimTable`] of C functions under
//! the name [`table::SYMBOL`]; [`Library`] finds it and is a [`vgpu_protocol::calls::Remote`]:
//! the stubs of the call table work over it as they do in libcuda.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | the layout of the table, and its side in libcuda |
//! | [`library`] | the other libraries' side |

pub mod library;
pub mod table;

pub use library::{Library, OpenError, Place};
