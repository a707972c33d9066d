//! What the tests share: kernels, memory and calls whose results are errors.

use std::ffi::c_void;
use std::ptr;

use anyhow::{Result, ensure};

use crate::call;
use crate::cuda::{Module, sys};

/// Kernels over 32-bit words. `step(p, n, k)`: each word becomes 3 × itself + `k`: an order of
/// calls is seen in the result.
pub const PTX: &str = r"
.version 7.0
.target sm_50
.address_size 64
.visible .entry step(.param .u64 p, .param .u32 n, .param .u32 k)
{
    .reg .pred %q; .reg .b32 %r<8>; .reg .b64 %d<4>;
    ld.param.u64 %d1, [p]; ld.param.u32 %r1, [n]; ld.param.u32 %r2, [k];
    mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %q, %r6, %r1;
    @%q bra DONE;
    mul.wide.u32 %d2, %r6, 4; add.s64 %d3, %d1, %d2;
    ld.global.u32 %r7, [%d3]; mad.lo.s32 %r7, %r7, 3, %r2; st.global.u32 [%d3], %r7;
DONE:
    ret;
}
.visible .entry mix(.param .u64 p, .param .u64 q, .param .u32 n, .param .u32 k)
{
    .reg .pred %q; .reg .b32 %r<9>; .reg .b64 %d<6>;
    ld.param.u64 %d1, [p]; ld.param.u64 %d2, [q]; ld.param.u32 %r1, [n]; ld.param.u32 %r2, [k];
    mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x;
    mad.lo.s32 %r6, %r3, %r4, %r5;
    setp.ge.u32 %q, %r6, %r1;
    @%q bra DONE;
    mul.wide.u32 %d3, %r6, 4; add.s64 %d4, %d1, %d3; add.s64 %d5, %d2, %d3;
    ld.global.u32 %r7, [%d4]; ld.global.u32 %r8, [%d5];
    mad.lo.s32 %r7, %r7, 3, %r8; add.u32 %r7, %r7, %r2; st.global.u32 [%d4], %r7;
DONE:
    ret;
}
";

/// Words of the tests' arrays.
pub const N: u32 = 64;

/// A result's number, 0 for success.
pub fn code<T>(result: &Result<T, crate::cuda::Failed>) -> u32 {
    result
        .as_ref()
        .err()
        .map_or(0, |failed| failed.result as u32)
}

/// Fails where a call has not come to this.
pub fn expect<T>(what: &str, result: Result<T, crate::cuda::Failed>, wanted: u32) -> Result<()> {
    let found = code(&result);
    ensure!(found == wanted, "{what}: {found}, expected {wanted}");
    Ok(())
}

/// Device memory of [`N`] words, and the kernels.
pub struct Bench {
    _module: Module,
    pub step: sys::CUfunction,
    pub mix: sys::CUfunction,
    memory: Vec<sys::CUdeviceptr>,
}

impl Bench {
    pub fn new(arrays: usize) -> Result<Bench> {
        let module = Module::load(PTX)?;
        let raw = module.raw();
        let get = |name: &std::ffi::CStr| -> Result<sys::CUfunction> {
            let mut f = ptr::null_mut();
            // SAFETY: a loaded module, a name that ends with a NUL; one place to write.
            unsafe { call!(cuModuleGetFunction(&mut f, raw, name.as_ptr())) }?;
            Ok(f)
        };
        let (step, mix) = (get(c"step")?, get(c"mix")?);
        let mut memory = Vec::new();
        for _ in 0..arrays {
            let mut address = 0;
            // SAFETY: one place to write; the memory is as long as what is set.
            unsafe {
                call!(cuMemAlloc_v2(&mut address, N as usize * 4))?;
                call!(cuMemsetD32_v2(address, 0, N as usize))?;
            }
            memory.push(address);
        }
        sync()?;
        Ok(Bench {
            _module: module,
            step,
            mix,
            memory,
        })
    }

    pub fn at(&self, i: usize) -> sys::CUdeviceptr {
        self.memory[i]
    }

    /// Launches `step`.
    pub fn step(&self, i: usize, k: u32, stream: sys::CUstream) -> Result<(), crate::cuda::Failed> {
        let (mut p, mut n, mut k) = (self.memory[i], N, k);
        let mut params: [*mut c_void; 3] = [
            (&raw mut p).cast(),
            (&raw mut n).cast(),
            (&raw mut k).cast(),
        ];
        // SAFETY: a live kernel with these three parameters.
        unsafe {
            call!(cuLaunchKernel(
                self.step,
                1,
                1,
                1,
                N,
                1,
                1,
                0,
                stream,
                params.as_mut_ptr(),
                ptr::null_mut()
            ))
        }
    }

    /// Launches `mix`: array `i` becomes 3 × itself + array `j` + `k`.
    pub fn mix(
        &self,
        i: usize,
        j: usize,
        k: u32,
        stream: sys::CUstream,
    ) -> Result<(), crate::cuda::Failed> {
        let (mut p, mut q, mut n, mut k) = (self.memory[i], self.memory[j], N, k);
        let mut params: [*mut c_void; 4] = [
            (&raw mut p).cast(),
            (&raw mut q).cast(),
            (&raw mut n).cast(),
            (&raw mut k).cast(),
        ];
        // SAFETY: a live kernel with these four parameters.
        unsafe {
            call!(cuLaunchKernel(
                self.mix,
                1,
                1,
                1,
                N,
                1,
                1,
                0,
                stream,
                params.as_mut_ptr(),
                ptr::null_mut()
            ))
        }
    }

    pub fn read(&self, i: usize) -> Result<u32> {
        let mut words = [0u32; N as usize];
        // SAFETY: as many words as the array has.
        unsafe {
            call!(cuMemcpyDtoH_v2(
                words.as_mut_ptr().cast(),
                self.memory[i],
                N as usize * 4
            ))
        }?;
        ensure!(
            words.iter().all(|w| *w == words[0]),
            "the words of an array differ"
        );
        Ok(words[0])
    }

    pub fn clear(&self) -> Result<()> {
        for address in &self.memory {
            // SAFETY: as long as the array is.
            unsafe { call!(cuMemsetD32_v2(*address, 0, N as usize)) }?;
        }
        sync()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for address in &self.memory {
            // SAFETY: allocated by `new`, freed once.
            let _ = unsafe { call!(cuMemFree_v2(*address)) };
        }
    }
}

pub fn sync() -> Result<()> {
    // SAFETY: no preconditions.
    unsafe { call!(cuCtxSynchronize()) }.map_err(Into::into)
}

/// A stream that is destroyed in the end.
pub struct Stream(pub sys::CUstream);

impl Stream {
    pub fn new(flags: u32) -> Result<Stream> {
        let mut stream = ptr::null_mut();
        // SAFETY: one place to write.
        unsafe { call!(cuStreamCreate(&mut stream, flags)) }?;
        Ok(Stream(stream))
    }

    pub fn wait(&self) -> Result<()> {
        // SAFETY: a live stream.
        unsafe { call!(cuStreamSynchronize(self.0)) }.map_err(Into::into)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { call!(cuStreamDestroy_v2(self.0)) };
    }
}

/// An event that is destroyed in the end.
pub struct Event(pub sys::CUevent);

impl Event {
    pub fn new() -> Result<Event> {
        let mut event = ptr::null_mut();
        // SAFETY: one place to write.
        unsafe { call!(cuEventCreate(&mut event, 0)) }?;
        Ok(Event(event))
    }

    pub fn record(&self, stream: sys::CUstream) -> Result<(), crate::cuda::Failed> {
        // SAFETY: a live event, a live stream.
        unsafe { call!(cuEventRecord(self.0, stream)) }
    }

    pub fn awaited_by(&self, stream: sys::CUstream) -> Result<(), crate::cuda::Failed> {
        // SAFETY: as above.
        unsafe { call!(cuStreamWaitEvent(stream, self.0, 0)) }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { call!(cuEventDestroy_v2(self.0)) };
    }
}

/// `CUstreamCaptureMode`.
pub use sys::CUstreamCaptureMode_enum as Mode;

pub fn begin(stream: sys::CUstream, mode: Mode) -> Result<(), crate::cuda::Failed> {
    // SAFETY: a live stream.
    unsafe { call!(cuStreamBeginCapture_v2(stream, mode)) }
}

pub fn end(stream: sys::CUstream) -> Result<Graph, crate::cuda::Failed> {
    let mut graph = ptr::null_mut();
    // SAFETY: a live stream, one place to write.
    unsafe { call!(cuStreamEndCapture(stream, &mut graph)) }?;
    Ok(Graph(graph))
}

/// 0 none, 1 active, 2 invalidated.
pub fn status(stream: sys::CUstream) -> Result<u32> {
    let mut status = sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: a live stream, one place to write.
    unsafe { call!(cuStreamIsCapturing(stream, &mut status)) }?;
    Ok(status as u32)
}

/// A graph that is destroyed in the end.
pub struct Graph(pub sys::CUgraph);

impl Graph {
    pub fn new() -> Result<Graph> {
        let mut graph = ptr::null_mut();
        // SAFETY: one place to write.
        unsafe { call!(cuGraphCreate(&mut graph, 0)) }?;
        Ok(Graph(graph))
    }

    pub fn exec(&self) -> Result<Exec, crate::cuda::Failed> {
        let mut exec = ptr::null_mut();
        // SAFETY: a live graph, one place to write.
        unsafe { call!(cuGraphInstantiateWithFlags(&mut exec, self.0, 0)) }?;
        Ok(Exec(exec))
    }

    pub fn nodes(&self) -> Result<Vec<sys::CUgraphNode>> {
        let mut count = 0;
        // SAFETY: a live graph; first the length is asked, then there is room for it.
        unsafe {
            call!(cuGraphGetNodes(self.0, ptr::null_mut(), &mut count))?;
            let mut nodes = vec![ptr::null_mut(); count];
            call!(cuGraphGetNodes(self.0, nodes.as_mut_ptr(), &mut count))?;
            Ok(nodes)
        }
    }

    pub fn edges(&self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: a live graph; only the length is asked.
        unsafe {
            call!(cuGraphGetEdges_v2(
                self.0,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                &mut count
            ))
        }?;
        Ok(count)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        let _ = unsafe { call!(cuGraphDestroy(self.0)) };
    }
}

/// An executable graph that is destroyed in the end.
pub struct Exec(pub sys::CUgraphExec);

impl Exec {
    pub fn launch(&self, stream: sys::CUstream) -> Result<(), crate::cuda::Failed> {
        // SAFETY: a live executable graph, a live stream.
        unsafe { call!(cuGraphLaunch(self.0, stream)) }
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        // SAFETY: destroyed once.
        let _ = unsafe { call!(cuGraphExecDestroy(self.0)) };
    }
}
