//! Fuzzes the software GPU: its loader, its compiler and its executor, with inputs of a hostile guest.
//!
//! A case is an image and the seed of what is done with it. Most cases are PTX texts with a few changes, which know the
//! language ([`mutate`]), or kernels whose addresses are wild ([`generate`]); the others are fatbins, linked images and
//! damaged bytes ([`image`]). What loads is launched in every form of execution, with a limit on its time, with
//! arguments that point to small allocations, and with all other device memory closed to the process ([`guard`]), so
//! that an access that is not contained ends it. What two forms leave must be the same ([`compare`]).
//!
//! Cases run in a process of their own ([`work`]), which another one watches ([`watch`]): a signal, a panic (even one
//! that is caught), a finding of AddressSanitizer, forms that differ, a hang ([`patience`]) and too much memory are findings. The
//! case is kept, and can be run again.

pub mod case;
pub mod compare;
pub mod corpus;
pub mod execute;
pub mod generate;
pub mod guard;
pub mod image;
pub mod mutate;
pub mod patience;
pub mod random;
pub mod statement;
pub mod stats;
pub mod watch;
pub mod work;
