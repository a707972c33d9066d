//! What the tests of the device share.
//!
//! | module | holds |
//! |---|---|
//! | [`machine`] | what a test body needs of the machine that the device is plugged into |
//! | [`guest`] | a guest process: claims a channel, sends calls, reads replies |
//! | [`bodies`] | tests of the device that run on any machine |
//! | [`fake_driver`] | copies of the fake NVIDIA driver |
//! | [`ptx`] | kernels |
//! | [`runner`] | a test runner whose tests can be skipped with a reason |

pub mod bodies;
pub mod fake_driver;
pub mod guest;
pub mod machine;
pub mod ptx;
pub mod runner;

pub use guest::Guest;
pub use machine::{Machine, Spec};
