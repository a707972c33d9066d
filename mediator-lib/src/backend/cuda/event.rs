//! Events.

use cudarc::driver::sys::CUevent_flags_enum as Flags;
use vgpu_protocol::Status;
use vgpu_protocol::calls::CtxId;

use super::sys::object::Event;

/// An event as the session's table holds it.
#[derive(Debug)]
pub struct EventEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The event.
    pub event: Event,
}

/// The flags that reach the driver.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for unknown ones, and for `CU_EVENT_INTERPROCESS`: there is no call that
/// would hand such an event to another process.
pub fn check_flags(flags: u32) -> Result<u32, Status> {
    const BLOCKING: u32 = Flags::CU_EVENT_BLOCKING_SYNC as u32;
    const NO_TIMING: u32 = Flags::CU_EVENT_DISABLE_TIMING as u32;
    if flags & !(BLOCKING | NO_TIMING) != 0 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flags_that_mean_something_here_pass() {
        for flags in 0..=3 {
            assert_eq!(check_flags(flags), Ok(flags));
        }
        for flags in [4, 8, u32::MAX] {
            assert_eq!(check_flags(flags), Err(Status::ERROR_INVALID_VALUE));
        }
    }
}
