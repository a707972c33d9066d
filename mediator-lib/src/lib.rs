//! The mediator: sessions, dispatch and backends behind the vgpu-stub device.
//!
//! | module | holds |
//! |---|---|
//! | [`mediator`] | one per device: chooses the backend, opens sessions |
//! | [`session`] | one per channel: counts, dispatches, keeps deferred errors |
//! | [`backend`] | what a GPU must be able to do; `soft` and `cuda` |
//! | [`arena`] | the channel's staging arena in BAR1, as the host sees it |
//! | [`budget`] | the VM's share of device memory |
//! | [`handles`] | tables of what a session owns |
//! | [`counters`] | calls by name |

pub mod arena;
pub mod backend;
pub mod budget;
pub mod cancel;
pub mod counters;
pub mod handles;
pub mod mediator;
pub mod session;

pub use mediator::{BackendChoice, Mediator, MediatorConfig, MediatorError};
pub use session::{Reply, Session};
