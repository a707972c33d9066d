//! Events.

use cudarc::driver::sys::{CUevent, CUstream};

use crate::abi::{Out, exports};
use crate::runtime::enter;

exports! {
    /// Creates an event.
    fn cudaEventCreate(out: Out<CUevent>) {
        enter()?.driver.cuEventCreate(out, 0)
    }

    /// Creates an event; the flags are the driver's.
    fn cudaEventCreateWithFlags(out: Out<CUevent>, flags: u32) {
        enter()?.driver.cuEventCreate(out, flags)
    }

    /// Destroys an event.
    fn cudaEventDestroy(event: CUevent) {
        enter()?.driver.cuEventDestroy_v2(event)
    }

    /// Records an event in a stream.
    fn cudaEventRecord | cudaEventRecord_ptsz [zero] (event: CUevent, stream: CUstream) {
        enter()?.driver.cuEventRecord(zero, event, stream)
    }

    /// Records an event in a stream; the flags are the driver's.
    fn cudaEventRecordWithFlags | cudaEventRecordWithFlags_ptsz [zero] (event: CUevent, stream: CUstream, flags: u32) {
        enter()?.driver.cuEventRecordWithFlags(zero, event, stream, flags)
    }

    /// Success, or cudaErrorNotReady until the last record is reached.
    fn cudaEventQuery(event: CUevent) {
        enter()?.driver.cuEventQuery(event)
    }

    /// Waits until the last record is reached.
    fn cudaEventSynchronize(event: CUevent) {
        enter()?.driver.cuEventSynchronize(event)
    }

    /// Milliseconds between two recorded events.
    fn cudaEventElapsedTime(milliseconds: Out<f32>, start: CUevent, end: CUevent) {
        enter()?.driver.cuEventElapsedTime(milliseconds, start, end)
    }
}
