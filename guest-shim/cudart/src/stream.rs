//! Streams, and capture of their work.

use cudarc::driver::sys::{CUdeviceptr, CUevent, CUgraph, CUgraphNode, CUstream};

use crate::abi::{Host, In, Out, exports};
use crate::driver::{Opaque, StreamCallback};
use crate::runtime::enter;

exports! {
    /// Creates a stream.
    fn cudaStreamCreate(out: Out<CUstream>) {
        enter()?.driver.cuStreamCreate(out, 0)
    }

    /// Creates a stream; the flags are the driver's.
    fn cudaStreamCreateWithFlags(out: Out<CUstream>, flags: u32) {
        enter()?.driver.cuStreamCreate(out, flags)
    }

    /// Creates a stream with a priority.
    fn cudaStreamCreateWithPriority(out: Out<CUstream>, flags: u32, priority: i32) {
        enter()?.driver.cuStreamCreateWithPriority(out, flags, priority)
    }

    /// Destroys a stream once its work is done.
    fn cudaStreamDestroy(stream: CUstream) {
        enter()?.driver.cuStreamDestroy_v2(stream)
    }

    /// Waits for a stream's work.
    fn cudaStreamSynchronize | cudaStreamSynchronize_ptsz [zero] (stream: CUstream) {
        enter()?.driver.cuStreamSynchronize(zero, stream)
    }

    /// Success, or cudaErrorNotReady while work is left.
    fn cudaStreamQuery | cudaStreamQuery_ptsz [zero] (stream: CUstream) {
        enter()?.driver.cuStreamQuery(zero, stream)
    }

    /// Makes a stream wait for an event.
    fn cudaStreamWaitEvent | cudaStreamWaitEvent_ptsz [zero] (stream: CUstream, event: CUevent, flags: u32) {
        enter()?.driver.cuStreamWaitEvent(zero, stream, event, flags)
    }

    /// Has a function of the program called with the stream's status, in the stream's order. The
    /// numbers of the status are the runtime's and the driver's alike.
    fn cudaStreamAddCallback | cudaStreamAddCallback_ptsz [zero] (
        stream: CUstream, callback: StreamCallback, data: Opaque, flags: u32,
    ) {
        enter()?.driver.cuStreamAddCallback(zero, stream, callback, data, flags)
    }

    /// Ties managed memory to a stream.
    fn cudaStreamAttachMemAsync | cudaStreamAttachMemAsync_ptsz [zero] (
        stream: CUstream, at: Opaque, bytes: usize, flags: u32,
    ) {
        enter()?.driver.cuStreamAttachMemAsync(zero, stream, at as CUdeviceptr, bytes, flags)
    }

    /// A stream's flags.
    fn cudaStreamGetFlags | cudaStreamGetFlags_ptsz [zero] (stream: CUstream, flags: Out<u32>) {
        enter()?.driver.cuStreamGetFlags(zero, stream, flags)
    }

    /// A stream's priority.
    fn cudaStreamGetPriority | cudaStreamGetPriority_ptsz [zero] (stream: CUstream, priority: Out<i32>) {
        enter()?.driver.cuStreamGetPriority(zero, stream, priority)
    }

    /// A number that no other stream has.
    fn cudaStreamGetId | cudaStreamGetId_ptsz [zero] (stream: CUstream, id: Out<u64>) {
        enter()?.driver.cuStreamGetId(zero, stream, id)
    }

    /// The ordinal of a stream's device.
    fn cudaStreamGetDevice | cudaStreamGetDevice_ptsz [zero] (stream: CUstream, device: Out<i32>) {
        let runtime = enter()?;
        device.check()?;
        let handle = crate::abi::local(|d| runtime.driver.cuStreamGetDevice(zero, stream, d))?;
        device.set(runtime.ordinal(handle)?)
    }

    /// Copies a stream's attributes to another.
    fn cudaStreamCopyAttributes | cudaStreamCopyAttributes_ptsz [zero] (dst: CUstream, src: CUstream) {
        enter()?.driver.cuStreamCopyAttributes(zero, dst, src)
    }

    /// An attribute of a stream; names and values are laid out as the driver's.
    fn cudaStreamGetAttribute | cudaStreamGetAttribute_ptsz [zero] (stream: CUstream, attribute: i32, value: Opaque) {
        enter()?.driver.cuStreamGetAttribute(zero, stream, attribute, value)
    }

    /// Sets an attribute of a stream; names and values are laid out as the driver's.
    fn cudaStreamSetAttribute | cudaStreamSetAttribute_ptsz [zero] (stream: CUstream, attribute: i32, value: Opaque) {
        enter()?.driver.cuStreamSetAttribute(zero, stream, attribute, value)
    }

    /// Least and greatest priority; both places may be null.
    fn cudaDeviceGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        enter()?.driver.cuCtxGetStreamPriorityRange(least, greatest)
    }

    /// Begins capture of a stream's work.
    fn cudaStreamBeginCapture | cudaStreamBeginCapture_ptsz [zero] (stream: CUstream, mode: i32) {
        enter()?.driver.cuStreamBeginCapture_v2(zero, stream, mode)
    }

    /// Begins capture of a stream's work into a graph that is there.
    fn cudaStreamBeginCaptureToGraph | cudaStreamBeginCaptureToGraph_ptsz [zero] (
        stream: CUstream, graph: CUgraph, deps: In<CUgraphNode>, edges: Host, count: usize, mode: i32,
    ) {
        enter()?.driver.cuStreamBeginCaptureToGraph(zero, stream, graph, deps, edges, count, mode)
    }

    /// Ends capture and gives the graph.
    fn cudaStreamEndCapture | cudaStreamEndCapture_ptsz [zero] (stream: CUstream, graph: Out<CUgraph>) {
        enter()?.driver.cuStreamEndCapture(zero, stream, graph)
    }

    /// Whether a stream's work is being captured.
    fn cudaStreamIsCapturing | cudaStreamIsCapturing_ptsz [zero] (stream: CUstream, status: Out<i32>) {
        enter()?.driver.cuStreamIsCapturing(zero, stream, status)
    }

    /// State of a capture (ABI of CUDA 10.1).
    fn cudaStreamGetCaptureInfo_v1 | cudaStreamGetCaptureInfo_v1_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>,
    ) {
        enter()?.driver.cuStreamGetCaptureInfo(zero, stream, status, id)
    }

    /// State of a capture (ABI of CUDA 11.3).
    fn cudaStreamGetCaptureInfo_v2 | cudaStreamGetCaptureInfo_v2_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>, deps: Out<Opaque>,
        count: Out<usize>,
    ) {
        enter()?.driver.cuStreamGetCaptureInfo_v2(zero, stream, status, id, graph, deps, count)
    }

    /// State of a capture (ABI of CUDA 12.3).
    fn cudaStreamGetCaptureInfo_v3 | cudaStreamGetCaptureInfo_v3_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>, deps: Out<Opaque>,
        edges: Out<Opaque>, count: Out<usize>,
    ) {
        let driver = &enter()?.driver;
        driver.cuStreamGetCaptureInfo_v3(zero, stream, status, id, graph, deps, edges, count)
    }

    /// Changes what the next work of a capture depends on (ABI of CUDA 11.3).
    fn cudaStreamUpdateCaptureDependencies_v1 | cudaStreamUpdateCaptureDependencies_v1_ptsz [zero] (
        stream: CUstream, deps: In<CUgraphNode>, count: usize, flags: u32,
    ) {
        enter()?.driver.cuStreamUpdateCaptureDependencies(zero, stream, deps, count, flags)
    }

    /// Changes what the next work of a capture depends on (ABI of CUDA 12.3).
    fn cudaStreamUpdateCaptureDependencies_v2 | cudaStreamUpdateCaptureDependencies_v2_ptsz [zero] (
        stream: CUstream, deps: In<CUgraphNode>, edges: Host, count: usize, flags: u32,
    ) {
        enter()?.driver.cuStreamUpdateCaptureDependencies_v2(zero, stream, deps, edges, count, flags)
    }

    /// Exchanges this thread's mode of capture.
    fn cudaThreadExchangeStreamCaptureMode(mode: Out<i32>) {
        enter()?.driver.cuThreadExchangeStreamCaptureMode(mode)
    }
}
