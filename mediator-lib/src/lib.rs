//! The mediator: sessions, dispatch and backends behind the vgpu-stub device.
//!
//! | module | holds |
//! |---|---|
//! | [`mediator`] | one per device: chooses the backend, opens sessions |
//! | [`session`] | one per channel: counts, dispatches, keeps deferred errors |
//! | [`backend`] | what a GPU must be able to do; `soft` and `cuda` |
//! | [`arena`] | the channel's staging arena in BAR1, as the host sees it |
//! | [`captured`] | text of kernels that the driver writes to this process's standard output |
//! | [`ledger`] | what sessions in processes of their own have in common |
//! | [`budget`] | the VM's share of device memory |
//! | [`handles`] | tables of what a session owns |
//! | [`heap`] | BAR1's heap: memory that program, host and GPU reach |
//! | [`processes`] | the VM's processes that use the device |
//! | [`counters`] | calls by name |
//! | [`waker`] | how asynchronous work wakes the session's worker |
//! | [`callbacks`] | functions of the guest's program that streams call |

pub mod arena;
pub mod backend;
pub mod budget;
pub mod callbacks;
pub mod cancel;
pub mod captured;
pub mod counters;
pub mod handles;
pub mod heap;
pub mod ledger;
pub mod mediator;
pub mod processes;
pub mod session;
pub mod waker;

pub use captured::Captured;
pub use ledger::Ledger;
pub use mediator::{BackendChoice, Mediator, MediatorConfig, MediatorError};
pub use session::{Reply, Session};
