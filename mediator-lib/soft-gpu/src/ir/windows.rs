//! Generic addresses of the state spaces that are not device memory.

/// First generic address of shared memory.
pub const SHARED_WINDOW: u64 = 0x0100_0000_0000;
/// First generic address of local memory.
pub const LOCAL_WINDOW: u64 = 0x0200_0000_0000;
/// First generic address of the kernel parameters.
pub const PARAM_WINDOW: u64 = 0x0300_0000_0000;
/// First address of functions; function `n` stands at `+ n * FUNCTION_STEP`.
pub const FUNCTION_WINDOW: u64 = 0x0400_0000_0000;
/// Bytes between function addresses.
pub const FUNCTION_STEP: u64 = 16;
/// Size of each window.
pub const WINDOW_BYTES: u64 = 1 << 32;
