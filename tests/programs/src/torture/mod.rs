//! Random programs beside a reference of CUDA's ordering rules, and processes that are killed.
//!
//! | module | holds |
//! |---|---|
//! | [`clock`] | the reference: what CUDA's rules order, as clocks of streams, events and the host |
//! | [`device`] | the driver's objects that a random program uses |
//! | [`program`] | one thread's random program, and what each byte must be |
//! | [`processes`] | many such programs at once, killed or not, and what they leave behind |
//! | [`random`] | numbers that a seed repeats |

pub mod clock;
#[allow(unsafe_code, reason = "the driver API is foreign functions")]
pub mod device;
pub mod processes;
pub mod program;
pub mod random;
