//! The host's cuBLAS, loaded at run time as the driver is.
//!
//! The signatures are compared with those of `cudarc`'s bindings of `cublas_api.h`. The routines of
//! levels 1 to 3 are looked up by name ([`routine`]).

use std::ffi::{c_int, c_longlong, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::cublas::sys as blas;
use cudarc::driver::sys::CUstream;
use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, ty};
use vgpu_protocol::calls::{BlasGemm, BlasTrsmBatched};

use super::object::{Context, Stream};
use super::{LoadError, open_library, symbol};
use crate::backend::cuda::mem::DeviceRange;

macro_rules! real {
    ($ty:ty) => {
        $ty
    };
    ($ty:ty, $real:ty) => {
        $real
    };
}

macro_rules! functions {
    ([$library:ident] $($name:ident($($arg:ident: $ty:ty $([$real:ty])?),* $(,)?);)*) => {
        /// The library's functions; `None` for one that it does not have.
        #[allow(non_snake_case, reason = "NVIDIA's names")]
        struct Functions {
            $($name: Option<unsafe extern "C" fn($($ty),*) -> c_uint>,)*
        }

        // Fails to compile where a signature differs, up to the enumerations, whose sizes are compared.
        $(
            const _: unsafe fn($(real!($ty $(, $real)?)),*) -> $library::cublasStatus_t = $library::$name;
            const _: () = {
                $(assert!(size_of::<$ty>() == size_of::<real!($ty $(, $real)?)>());)*
            };
        )*

        impl Functions {
            fn load(library: *mut c_void) -> Functions {
                Functions {$($name: {
                    let at = symbol(library, concat!(stringify!($name), "\0"));
                    // SAFETY: a function of this name has this signature (cublas_api.h, compared
                    // above); a null pointer becomes `None`.
                    unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn($($ty),*) -> c_uint>>(at) }
                },)*}
            }
        }
    };
}

pub mod lt;
pub mod routine;

functions! {
    [blas]
    cublasCreate_v2(handle: *mut blas::cublasHandle_t);
    cublasDestroy_v2(handle: blas::cublasHandle_t);
    cublasSetStream_v2(handle: blas::cublasHandle_t, stream: CUstream [blas::cudaStream_t]);
    cublasSetWorkspace_v2(handle: blas::cublasHandle_t, at: *mut c_void, bytes: usize);
    cublasSetMathMode(handle: blas::cublasHandle_t, mode: c_uint [blas::cublasMath_t]);
    cublasSetPointerMode_v2(handle: blas::cublasHandle_t, mode: c_uint [blas::cublasPointerMode_t]);
    cublasSetAtomicsMode(handle: blas::cublasHandle_t, mode: c_uint [blas::cublasAtomicsMode_t]);
    cublasGemmEx(handle: blas::cublasHandle_t, transa: c_uint [blas::cublasOperation_t], transb: c_uint [blas::cublasOperation_t],
        m: c_int, n: c_int, k: c_int, alpha: *const c_void,
        a: *const c_void, a_type: c_uint [blas::cudaDataType], lda: c_int,
        b: *const c_void, b_type: c_uint [blas::cudaDataType], ldb: c_int, beta: *const c_void,
        c: *mut c_void, c_type: c_uint [blas::cudaDataType], ldc: c_int,
        compute: c_uint [blas::cublasComputeType_t], algo: c_int [blas::cublasGemmAlgo_t]);
    cublasGemmBatchedEx(handle: blas::cublasHandle_t, transa: c_uint [blas::cublasOperation_t], transb: c_uint [blas::cublasOperation_t],
        m: c_int, n: c_int, k: c_int, alpha: *const c_void,
        a: *const *const c_void, a_type: c_uint [blas::cudaDataType], lda: c_int,
        b: *const *const c_void, b_type: c_uint [blas::cudaDataType], ldb: c_int, beta: *const c_void,
        c: *const *mut c_void, c_type: c_uint [blas::cudaDataType], ldc: c_int, batch: c_int,
        compute: c_uint [blas::cublasComputeType_t], algo: c_int [blas::cublasGemmAlgo_t]);
    cublasGemmStridedBatchedEx(handle: blas::cublasHandle_t, transa: c_uint [blas::cublasOperation_t], transb: c_uint [blas::cublasOperation_t],
        m: c_int, n: c_int, k: c_int, alpha: *const c_void,
        a: *const c_void, a_type: c_uint [blas::cudaDataType], lda: c_int, stride_a: c_longlong,
        b: *const c_void, b_type: c_uint [blas::cudaDataType], ldb: c_int, stride_b: c_longlong, beta: *const c_void,
        c: *mut c_void, c_type: c_uint [blas::cudaDataType], ldc: c_int, stride_c: c_longlong, batch: c_int,
        compute: c_uint [blas::cublasComputeType_t], algo: c_int [blas::cublasGemmAlgo_t]);
    cublasStrsmBatched(handle: blas::cublasHandle_t, side: c_uint [blas::cublasSideMode_t], uplo: c_uint [blas::cublasFillMode_t],
        trans: c_uint [blas::cublasOperation_t], diag: c_uint [blas::cublasDiagType_t], m: c_int, n: c_int, alpha: *const f32,
        a: *const *const f32, lda: c_int, b: *const *mut f32, ldb: c_int, batch: c_int);
    cublasDtrsmBatched(handle: blas::cublasHandle_t, side: c_uint [blas::cublasSideMode_t], uplo: c_uint [blas::cublasFillMode_t],
        trans: c_uint [blas::cublasOperation_t], diag: c_uint [blas::cublasDiagType_t], m: c_int, n: c_int, alpha: *const f64,
        a: *const *const f64, lda: c_int, b: *const *mut f64, ldb: c_int, batch: c_int);
    cublasCtrsmBatched(handle: blas::cublasHandle_t, side: c_uint [blas::cublasSideMode_t], uplo: c_uint [blas::cublasFillMode_t],
        trans: c_uint [blas::cublasOperation_t], diag: c_uint [blas::cublasDiagType_t], m: c_int, n: c_int, alpha: *const blas::cuComplex,
        a: *const *const blas::cuComplex, lda: c_int, b: *const *mut blas::cuComplex, ldb: c_int, batch: c_int);
    cublasZtrsmBatched(handle: blas::cublasHandle_t, side: c_uint [blas::cublasSideMode_t], uplo: c_uint [blas::cublasFillMode_t],
        trans: c_uint [blas::cublasOperation_t], diag: c_uint [blas::cublasDiagType_t], m: c_int, n: c_int, alpha: *const blas::cuDoubleComplex,
        a: *const *const blas::cuDoubleComplex, lda: c_int, b: *const *mut blas::cuDoubleComplex, ldb: c_int, batch: c_int);
}

/// The loaded library. It is never unloaded.
pub struct Library {
    functions: Functions,
    handle: *mut c_void,
    /// The name under which it was found.
    pub name: String,
}

// SAFETY: a handle of dlopen may be used from any thread, and the library is never closed.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Library {
    /// Loads the first of these libraries that there is.
    ///
    /// # Errors
    /// The dynamic linker's words on each of them.
    pub fn load(names: &[&str]) -> Result<Library, String> {
        let mut reasons = Vec::new();
        for name in names {
            let handle = match open_library(name) {
                Ok(handle) => handle,
                Err(LoadError::Library(reason)) => {
                    reasons.push(reason);
                    continue;
                }
                Err(_) => continue,
            };
            return Ok(Library {
                functions: Functions::load(handle),
                handle,
                name: (*name).to_owned(),
            });
        }
        Err(reasons.join("; "))
    }
}

fn check(result: c_uint) -> Result<(), BlasStatus> {
    if result == 0 {
        Ok(())
    } else {
        Err(BlasStatus(result))
    }
}

fn need<F>(function: Option<F>) -> Result<F, BlasStatus> {
    function.ok_or(BlasStatus::NOT_SUPPORTED)
}

/// A 32-bit number of the library.
fn int(value: i64) -> Result<c_int, BlasStatus> {
    c_int::try_from(value).map_err(|_| BlasStatus::NOT_SUPPORTED)
}

/// A factor, where the library finds it.
#[derive(Clone, Copy, Debug)]
pub enum Factor {
    /// In this process: the bytes of the message.
    Host([u64; 2]),
    /// In device memory.
    Device(DeviceRange),
}

impl Factor {
    fn at(&self) -> *const c_void {
        match self {
            Factor::Host(words) => words.as_ptr().cast(),
            Factor::Device(range) => range.address() as *const c_void,
        }
    }

    fn mode(&self) -> c_uint {
        u32::from(matches!(self, Factor::Device(_)))
    }
}

/// A handle of the library.
pub struct Handle {
    library: Arc<Library>,
    ctx: Arc<Context>,
    raw: blas::cublasHandle_t,
    /// What was set last: math and atomics mode.
    modes: (c_uint, c_uint),
    /// The stream that was set last, for comparison.
    stream: Option<usize>,
}

// SAFETY: a handle may be used from any thread, one at a time (cuBLAS, "Thread Safety"): every use
// takes it by `&mut`.
unsafe impl Send for Handle {}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

fn entered(error: Status) -> BlasStatus {
    tracing::debug!(%error, "a handle's context cannot be made current");
    BlasStatus::EXECUTION_FAILED
}

impl Handle {
    /// `cublasCreate`.
    pub fn create(library: &Arc<Library>, ctx: &Arc<Context>) -> Result<Handle, BlasStatus> {
        let _alive = ctx.enter().map_err(entered)?;
        let f = need(library.functions.cublasCreate_v2)?;
        let mut raw = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { f(&mut raw) })?;
        Ok(Handle {
            library: Arc::clone(library),
            ctx: Arc::clone(ctx),
            raw,
            modes: (0, 0),
            stream: None,
        })
    }

    /// `cublasSetWorkspace`; the memory stays the caller's.
    pub fn set_workspace(
        &mut self,
        stream: &Stream,
        memory: Option<DeviceRange>,
    ) -> Result<(), BlasStatus> {
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        // "cublasSetStream() unconditionally resets the cuBLAS library workspace back to the default
        // workspace pool."
        self.stream = None;
        self.set_stream(stream)?;
        let Some(memory) = memory else { return Ok(()) };
        let f = need(self.library.functions.cublasSetWorkspace_v2)?;
        // SAFETY: device memory of the context, which the guest keeps as cuBLAS asks of any program: a
        // kernel of the library that finds it freed ends with an illegal address.
        check(unsafe {
            f(
                self.raw,
                memory.address() as *mut c_void,
                memory.bytes() as usize,
            )
        })
    }

    fn set_stream(&mut self, stream: &Stream) -> Result<(), BlasStatus> {
        if self.stream == Some(stream.raw as usize) {
            return Ok(());
        }
        let f = need(self.library.functions.cublasSetStream_v2)?;
        // SAFETY: a live handle, and a stream that the caller borrows.
        check(unsafe { f(self.raw, stream.raw) })?;
        self.stream = Some(stream.raw as usize);
        Ok(())
    }

    fn prepare(
        &mut self,
        stream: &Stream,
        modes: (c_uint, c_uint),
        factors: &[&Factor],
    ) -> Result<(), BlasStatus> {
        self.set_stream(stream)?;
        let functions = &self.library.functions;
        if modes != self.modes {
            let math = need(functions.cublasSetMathMode)?;
            let atomics = need(functions.cublasSetAtomicsMode)?;
            // SAFETY: a live handle and numbers, which the library checks.
            check(unsafe { math(self.raw, modes.0) })?;
            // SAFETY: as above.
            check(unsafe { atomics(self.raw, modes.1) })?;
            self.modes = modes;
        }
        let mode = factors.first().map_or(0, |factor| factor.mode());
        if factors.iter().any(|factor| factor.mode() != mode) {
            return Err(BlasStatus::INVALID_VALUE);
        }
        let pointers = need(functions.cublasSetPointerMode_v2)?;
        // SAFETY: a live handle and one of the two modes.
        check(unsafe { pointers(self.raw, mode) })
    }

    /// `cublasGemmEx` and its batched forms.
    pub fn gemm(&mut self, stream: &Stream, g: &Gemm<'_>) -> Result<(), BlasStatus> {
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        let op = g.op;
        self.prepare(
            stream,
            (op.target.math, op.target.atomics),
            &[&g.alpha, &g.beta],
        )?;
        let functions = &self.library.functions;
        let (m, n, k, batch) = (int(op.m)?, int(op.n)?, int(op.k)?, int(op.batch)?);
        let (lda, ldb, ldc) = (int(op.a.ld)?, int(op.b.ld)?, int(op.c.ld)?);
        let (alpha, beta) = (g.alpha.at(), g.beta.at());
        let (a, b, c) = (op.a.at.0, op.b.at.0, op.c.at.0);
        // SAFETY, for all three: a live handle; numbers, which the library checks; factors that live
        // until the call returns, or lie in device memory where the mode says so; matrices and arrays
        // whose ranges in the context's device memory the caller has checked. The library itself does
        // not read them: its kernels do.
        match g.batch {
            Batch::One => {
                let f = need(functions.cublasGemmEx)?;
                // SAFETY: see above.
                check(unsafe {
                    f(
                        self.raw,
                        op.transa,
                        op.transb,
                        m,
                        n,
                        k,
                        alpha,
                        a as *const c_void,
                        op.a.ty,
                        lda,
                        b as *const c_void,
                        op.b.ty,
                        ldb,
                        beta,
                        c as *mut c_void,
                        op.c.ty,
                        ldc,
                        op.compute,
                        op.algo,
                    )
                })
            }
            Batch::Pointers => {
                let f = need(functions.cublasGemmBatchedEx)?;
                // SAFETY: see above.
                check(unsafe {
                    f(
                        self.raw,
                        op.transa,
                        op.transb,
                        m,
                        n,
                        k,
                        alpha,
                        a as *const *const c_void,
                        op.a.ty,
                        lda,
                        b as *const *const c_void,
                        op.b.ty,
                        ldb,
                        beta,
                        c as *const *mut c_void,
                        op.c.ty,
                        ldc,
                        batch,
                        op.compute,
                        op.algo,
                    )
                })
            }
            Batch::Strided => {
                let f = need(functions.cublasGemmStridedBatchedEx)?;
                // SAFETY: see above.
                check(unsafe {
                    f(
                        self.raw,
                        op.transa,
                        op.transb,
                        m,
                        n,
                        k,
                        alpha,
                        a as *const c_void,
                        op.a.ty,
                        lda,
                        op.a.stride,
                        b as *const c_void,
                        op.b.ty,
                        ldb,
                        op.b.stride,
                        beta,
                        c as *mut c_void,
                        op.c.ty,
                        ldc,
                        op.c.stride,
                        batch,
                        op.compute,
                        op.algo,
                    )
                })
            }
        }
    }

    /// `cublas<t>trsmBatched`; the arrays of addresses and `alpha` were checked.
    pub fn trsm_batched(
        &mut self,
        stream: &Stream,
        op: &BlasTrsmBatched,
        alpha: &Factor,
    ) -> Result<(), BlasStatus> {
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        self.prepare(stream, (op.target.math, op.target.atomics), &[alpha])?;
        let functions = &self.library.functions;
        let (m, n, batch) = (int(op.m)?, int(op.n)?, int(op.batch)?);
        let (lda, ldb) = (int(op.a.ld)?, int(op.b.ld)?);
        macro_rules! call {
            ($name:ident) => {{
                let f = need(functions.$name)?;
                // SAFETY: as in `gemm`.
                check(unsafe {
                    f(
                        self.raw,
                        op.side,
                        op.uplo,
                        op.trans,
                        op.diag,
                        m,
                        n,
                        alpha.at().cast(),
                        op.a.at.0 as *const _,
                        lda,
                        op.b.at.0 as *const _,
                        ldb,
                        batch,
                    )
                })
            }};
        }
        match op.a.ty {
            ty::R_32F => call!(cublasStrsmBatched),
            ty::R_64F => call!(cublasDtrsmBatched),
            ty::C_32F => call!(cublasCtrsmBatched),
            ty::C_64F => call!(cublasZtrsmBatched),
            _ => Err(BlasStatus::NOT_SUPPORTED),
        }
    }

    /// `cublasDestroy`, which waits for the work of the handle.
    pub fn destroy(&mut self) -> Result<(), BlasStatus> {
        // With its context, a handle's memory has gone already.
        let Ok(_alive) = self.ctx.enter() else {
            return Ok(());
        };
        let f = need(self.library.functions.cublasDestroy_v2)?;
        let raw = std::mem::replace(&mut self.raw, null_mut());
        if raw.is_null() {
            return Ok(());
        }
        // SAFETY: the handle that `create` got, and which is not used again.
        check(unsafe { f(raw) })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(status) = self.destroy() {
            tracing::debug!(?status, "cublasDestroy");
        }
    }
}

/// Which of the three functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// `cublasGemmEx`.
    One,
    /// `cublasGemmBatchedEx`.
    Pointers,
    /// `cublasGemmStridedBatchedEx`.
    Strided,
}

/// A product whose arguments were checked.
#[derive(Debug)]
pub struct Gemm<'a> {
    /// The call.
    pub op: &'a BlasGemm,
    /// Which function.
    pub batch: Batch,
    /// `alpha`.
    pub alpha: Factor,
    /// `beta`.
    pub beta: Factor,
}
