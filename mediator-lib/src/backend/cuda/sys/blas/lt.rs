//! The host's cublasLt. Descriptors are built for each call; which of the library's algorithms is taken
//! is asked once for each form of a product.

use std::collections::HashMap;
use std::ffi::{c_int, c_longlong, c_uint, c_ulonglong, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use cudarc::cublaslt::sys as lt;
use cudarc::driver::sys::CUstream;
use vgpu_protocol::blas::BlasStatus;
use vgpu_protocol::blas_lt::Epilogue;
use vgpu_protocol::calls::{LtMatmul, LtMatrix, LtTransform};
use vgpu_protocol::limits::MAX_LT_ALGORITHMS;

use super::super::object::{Context, Stream};
use super::super::{LoadError, open_library, symbol};
use super::{Factor, check, entered, need};
use crate::backend::cuda::mem::DeviceRange;

functions! {
    [lt]
    cublasLtCreate(handle: *mut lt::cublasLtHandle_t);
    cublasLtDestroy(handle: lt::cublasLtHandle_t);
    cublasLtMatmulDescCreate(desc: *mut lt::cublasLtMatmulDesc_t, compute: c_uint [lt::cublasComputeType_t],
        scale: c_uint [lt::cudaDataType_t]);
    cublasLtMatmulDescDestroy(desc: lt::cublasLtMatmulDesc_t);
    cublasLtMatmulDescSetAttribute(desc: lt::cublasLtMatmulDesc_t, which: c_uint [lt::cublasLtMatmulDescAttributes_t],
        at: *const c_void, bytes: usize);
    cublasLtMatrixLayoutCreate(layout: *mut lt::cublasLtMatrixLayout_t, ty: c_uint [lt::cudaDataType], rows: c_ulonglong,
        cols: c_ulonglong, ld: c_longlong);
    cublasLtMatrixLayoutDestroy(layout: lt::cublasLtMatrixLayout_t);
    cublasLtMatrixLayoutSetAttribute(layout: lt::cublasLtMatrixLayout_t, which: c_uint [lt::cublasLtMatrixLayoutAttribute_t],
        at: *const c_void, bytes: usize);
    cublasLtMatmulPreferenceCreate(preference: *mut lt::cublasLtMatmulPreference_t);
    cublasLtMatmulPreferenceDestroy(preference: lt::cublasLtMatmulPreference_t);
    cublasLtMatmulPreferenceSetAttribute(preference: lt::cublasLtMatmulPreference_t,
        which: c_uint [lt::cublasLtMatmulPreferenceAttributes_t], at: *const c_void, bytes: usize);
    cublasLtMatmulAlgoGetHeuristic(handle: lt::cublasLtHandle_t, desc: lt::cublasLtMatmulDesc_t, a: lt::cublasLtMatrixLayout_t,
        b: lt::cublasLtMatrixLayout_t, c: lt::cublasLtMatrixLayout_t, d: lt::cublasLtMatrixLayout_t,
        preference: lt::cublasLtMatmulPreference_t, wanted: c_int, results: *mut Found [*mut lt::cublasLtMatmulHeuristicResult_t],
        count: *mut c_int);
    cublasLtMatmul(handle: lt::cublasLtHandle_t, desc: lt::cublasLtMatmulDesc_t, alpha: *const c_void,
        a: *const c_void, a_layout: lt::cublasLtMatrixLayout_t, b: *const c_void, b_layout: lt::cublasLtMatrixLayout_t,
        beta: *const c_void, c: *const c_void, c_layout: lt::cublasLtMatrixLayout_t, d: *mut c_void,
        d_layout: lt::cublasLtMatrixLayout_t, algorithm: *const lt::cublasLtMatmulAlgo_t, workspace: *mut c_void, bytes: usize,
        stream: CUstream [lt::cudaStream_t]);
    cublasLtMatrixTransformDescCreate(desc: *mut lt::cublasLtMatrixTransformDesc_t, scale: c_uint [lt::cudaDataType]);
    cublasLtMatrixTransformDescDestroy(desc: lt::cublasLtMatrixTransformDesc_t);
    cublasLtMatrixTransformDescSetAttribute(desc: lt::cublasLtMatrixTransformDesc_t,
        which: c_uint [lt::cublasLtMatrixTransformDescAttributes_t], at: *const c_void, bytes: usize);
    cublasLtMatrixTransform(handle: lt::cublasLtHandle_t, desc: lt::cublasLtMatrixTransformDesc_t, alpha: *const c_void,
        a: *const c_void, a_layout: lt::cublasLtMatrixLayout_t, beta: *const c_void, b: *const c_void,
        b_layout: lt::cublasLtMatrixLayout_t, c: *mut c_void, c_layout: lt::cublasLtMatrixLayout_t,
        stream: CUstream [lt::cudaStream_t]);
}

/// `cublasLtMatmulHeuristicResult_t`, with its status as a number.
#[repr(C)]
#[derive(Clone, Copy)]
struct Found {
    algorithm: lt::cublasLtMatmulAlgo_t,
    workspace: usize,
    state: c_uint,
    waves: f32,
    reserved: [c_int; 4],
}

const _: () = assert!(size_of::<Found>() == size_of::<lt::cublasLtMatmulHeuristicResult_t>());

/// The loaded library. It is never unloaded.
pub struct Library {
    functions: Functions,
    /// The name under which it was found.
    pub name: String,
}

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
            match open_library(name) {
                Ok(handle) => {
                    return Ok(Library {
                        functions: Functions::load(handle),
                        name: (*name).to_owned(),
                    });
                }
                Err(LoadError::Library(reason)) => reasons.push(reason),
                Err(_) => {}
            }
        }
        Err(reasons.join("; "))
    }
}

/// An object of the library that lives for one call.
struct Object<T: Copy> {
    raw: T,
    destroy: unsafe extern "C" fn(T) -> c_uint,
    set: Option<unsafe extern "C" fn(T, c_uint, *const c_void, usize) -> c_uint>,
}

impl<T: Copy> Object<T> {
    /// Makes one by `create`, which stores it in a place.
    fn new(
        destroy: Option<unsafe extern "C" fn(T) -> c_uint>,
        set: Option<unsafe extern "C" fn(T, c_uint, *const c_void, usize) -> c_uint>,
        null: T,
        create: impl FnOnce(*mut T) -> Result<c_uint, BlasStatus>,
    ) -> Result<Object<T>, BlasStatus> {
        let destroy = need(destroy)?;
        let mut raw = null;
        check(create(&raw mut raw)?)?;
        Ok(Object { raw, destroy, set })
    }

    /// Sets an attribute to a plain number.
    fn set<V: Plain>(&self, which: c_uint, value: V) -> Result<(), BlasStatus> {
        let f = need(self.set)?;
        let at = (&raw const value).cast();
        // SAFETY: a live object of the library, and so many readable bytes, whose number it checks.
        check(unsafe { f(self.raw, which, at, size_of::<V>()) })
    }
}

impl<T: Copy> Drop for Object<T> {
    fn drop(&mut self) {
        // SAFETY: the library made it, and nobody uses it any more: a call that was submitted has taken
        // what it needs ("can be destroyed when the call returns", as of any descriptor).
        let status = unsafe { (self.destroy)(self.raw) };
        if status != 0 {
            tracing::debug!(status, "a descriptor of cublasLt cannot be destroyed");
        }
    }
}

/// Types of attributes.
trait Plain: Copy {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}

/// A product whose arguments were checked.
#[derive(Debug)]
pub struct Matmul<'a> {
    /// The call.
    pub op: &'a LtMatmul,
    /// Its epilogue.
    pub epilogue: Epilogue,
    /// `alpha`.
    pub alpha: Factor,
    /// `beta`.
    pub beta: Factor,
    /// The guest's workspace.
    pub workspace: Option<DeviceRange>,
}

/// What an algorithm is chosen by: all of a product but its addresses, of which only the alignment
/// counts.
type Key = Vec<u64>;

/// Algorithms that were chosen.
struct Chosen<T>(HashMap<Key, T>);

impl<T> Chosen<T> {
    fn keep(&mut self, key: Key, algorithm: T) {
        if self.0.len() >= MAX_LT_ALGORITHMS {
            self.0.clear();
        }
        self.0.insert(key, algorithm);
    }
}

/// A handle of the library.
pub struct Handle {
    library: Arc<Library>,
    ctx: Arc<Context>,
    raw: lt::cublasLtHandle_t,
    chosen: Chosen<lt::cublasLtMatmulAlgo_t>,
}

// SAFETY: a handle may be used from any thread (cuBLAS, "Thread Safety").
unsafe impl Send for Handle {}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Alignment of an address in bytes, up to what the library asks about; of a batch of pointers that of
/// an element of any type.
fn alignment(m: &LtMatrix) -> u32 {
    if m.mode != 0 {
        return 16;
    }
    1 << m.at.0.trailing_zeros().min(8)
}

fn key(m: &Matmul<'_>) -> Key {
    let op = m.op;
    let mut key = vec![
        op.compute.into(),
        op.scale.into(),
        op.transa.into(),
        op.transb.into(),
        op.epilogue.into(),
        m.alpha.mode().into(),
        u64::from(op.c.at == op.d.at),
        op.bias_stride as u64,
        op.aux_ld as u64,
        op.aux_stride as u64,
        m.workspace.map_or(0, DeviceRange::bytes),
    ];
    for x in [&op.a, &op.b, &op.c, &op.d] {
        key.extend([
            x.ty.into(),
            x.order.into(),
            x.rows,
            x.cols,
            x.ld as u64,
            x.batch as u64,
            x.stride as u64,
            x.mode.into(),
            alignment(x).into(),
        ]);
    }
    key
}

impl Handle {
    /// `cublasLtCreate`.
    pub fn create(library: &Arc<Library>, ctx: &Arc<Context>) -> Result<Handle, BlasStatus> {
        let _alive = ctx.enter().map_err(entered)?;
        let f = need(library.functions.cublasLtCreate)?;
        let mut raw = null_mut();
        // SAFETY: writes one handle.
        check(unsafe { f(&mut raw) })?;
        Ok(Handle {
            library: Arc::clone(library),
            ctx: Arc::clone(ctx),
            raw,
            chosen: Chosen(HashMap::new()),
        })
    }

    fn layout(&self, m: &LtMatrix) -> Result<Object<lt::cublasLtMatrixLayout_t>, BlasStatus> {
        let f = &self.library.functions;
        let create = need(f.cublasLtMatrixLayoutCreate)?;
        let layout = Object::new(
            f.cublasLtMatrixLayoutDestroy,
            f.cublasLtMatrixLayoutSetAttribute,
            null_mut(),
            // SAFETY: a place for the layout, and numbers.
            |at| Ok(unsafe { create(at, m.ty, m.rows, m.cols, m.ld) }),
        )?;
        // CUBLASLT_MATRIX_LAYOUT_ORDER, _BATCH_COUNT, _STRIDED_BATCH_OFFSET, _BATCH_MODE.
        if m.order != 0 {
            layout.set(1, m.order as i32)?;
        }
        if m.batch != 1 {
            let batch = i32::try_from(m.batch).map_err(|_| BlasStatus::NOT_SUPPORTED)?;
            layout.set(5, batch)?;
            layout.set(6, m.stride)?;
        }
        if m.mode != 0 {
            layout.set(8, m.mode)?;
        }
        Ok(layout)
    }

    fn describe(&self, m: &Matmul<'_>) -> Result<Object<lt::cublasLtMatmulDesc_t>, BlasStatus> {
        let (f, op) = (&self.library.functions, m.op);
        let create = need(f.cublasLtMatmulDescCreate)?;
        let desc = Object::new(
            f.cublasLtMatmulDescDestroy,
            f.cublasLtMatmulDescSetAttribute,
            null_mut(),
            // SAFETY: a place for the descriptor, and numbers, which the caller has checked.
            |at| Ok(unsafe { create(at, op.compute, op.scale) }),
        )?;
        // CUBLASLT_MATMUL_DESC_POINTER_MODE, _TRANSA, _TRANSB, _EPILOGUE.
        desc.set(2, m.alpha.mode() as i32)?;
        desc.set(3, op.transa as i32)?;
        desc.set(4, op.transb as i32)?;
        desc.set(7, op.epilogue)?;
        if m.epilogue.bias {
            // _BIAS_POINTER, _BIAS_BATCH_STRIDE: the caller has checked the memory.
            desc.set(8, op.bias.0)?;
            if op.bias_stride != 0 {
                desc.set(10, op.bias_stride)?;
            }
        }
        if m.epilogue.aux {
            // _EPILOGUE_AUX_POINTER, _AUX_LD, _AUX_BATCH_STRIDE.
            desc.set(11, op.aux.0)?;
            desc.set(12, op.aux_ld)?;
            if op.aux_stride != 0 {
                desc.set(13, op.aux_stride)?;
            }
        }
        Ok(desc)
    }

    /// The library's first choice for a product of this form.
    fn choose(
        &mut self,
        m: &Matmul<'_>,
        desc: lt::cublasLtMatmulDesc_t,
        [a, b, c, d]: [lt::cublasLtMatrixLayout_t; 4],
    ) -> Result<lt::cublasLtMatmulAlgo_t, BlasStatus> {
        let key = key(m);
        if let Some(known) = self.chosen.0.get(&key) {
            return Ok(*known);
        }
        let f = &self.library.functions;
        let create = need(f.cublasLtMatmulPreferenceCreate)?;
        let preference = Object::new(
            f.cublasLtMatmulPreferenceDestroy,
            f.cublasLtMatmulPreferenceSetAttribute,
            null_mut(),
            // SAFETY: a place for the preference.
            |at| Ok(unsafe { create(at) }),
        )?;
        // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, and _MIN_ALIGNMENT_A_BYTES to D.
        preference.set(1, m.workspace.map_or(0, DeviceRange::bytes))?;
        for (which, x) in (5..).zip([&m.op.a, &m.op.b, &m.op.c, &m.op.d]) {
            preference.set(which, alignment(x))?;
        }
        let heuristic = need(f.cublasLtMatmulAlgoGetHeuristic)?;
        let mut found = Found {
            algorithm: lt::cublasLtMatmulAlgo_t { data: [0; 8] },
            workspace: 0,
            state: 0,
            waves: 0.0,
            reserved: [0; 4],
        };
        let mut count = 0;
        // SAFETY: live objects of the library, and places for one result and its count.
        check(unsafe {
            heuristic(
                self.raw,
                desc,
                a,
                b,
                c,
                d,
                preference.raw,
                1,
                &mut found,
                &mut count,
            )
        })?;
        if count < 1 {
            return Err(BlasStatus::NOT_SUPPORTED);
        }
        check(found.state)?;
        self.chosen.keep(key, found.algorithm);
        Ok(found.algorithm)
    }

    /// `cublasLtMatmul`.
    pub fn matmul(&mut self, stream: &Stream, m: &Matmul<'_>) -> Result<(), BlasStatus> {
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        if m.alpha.mode() != m.beta.mode() {
            return Err(BlasStatus::INVALID_VALUE);
        }
        let op = m.op;
        let desc = self.describe(m)?;
        let (a, b) = (self.layout(&op.a)?, self.layout(&op.b)?);
        let (c, d) = (self.layout(&op.c)?, self.layout(&op.d)?);
        let algorithm = self.choose(m, desc.raw, [a.raw, b.raw, c.raw, d.raw])?;
        let f = need(self.library.functions.cublasLtMatmul)?;
        // SAFETY: live objects of the library; factors that live until the call returns, or lie in
        // device memory where the descriptor says so; matrices, bias and workspace whose ranges in the
        // context's device memory the caller has checked. The library itself does not read them: its
        // kernels do.
        check(unsafe {
            f(
                self.raw,
                desc.raw,
                m.alpha.at(),
                op.a.at.0 as *const c_void,
                a.raw,
                op.b.at.0 as *const c_void,
                b.raw,
                m.beta.at(),
                op.c.at.0 as *const c_void,
                c.raw,
                op.d.at.0 as *mut c_void,
                d.raw,
                &raw const algorithm,
                m.workspace.map_or(0, DeviceRange::address) as *mut c_void,
                m.workspace.map_or(0, DeviceRange::bytes) as usize,
                stream.raw,
            )
        })
    }

    /// `cublasLtMatrixTransform`.
    pub fn transform(
        &mut self,
        stream: &Stream,
        op: &LtTransform,
        (alpha, beta): (&Factor, &Factor),
    ) -> Result<(), BlasStatus> {
        let ctx = Arc::clone(&self.ctx);
        let _alive = ctx.enter().map_err(entered)?;
        if alpha.mode() != beta.mode() {
            return Err(BlasStatus::INVALID_VALUE);
        }
        let functions = &self.library.functions;
        let create = need(functions.cublasLtMatrixTransformDescCreate)?;
        let desc = Object::new(
            functions.cublasLtMatrixTransformDescDestroy,
            functions.cublasLtMatrixTransformDescSetAttribute,
            null_mut(),
            // SAFETY: a place for the descriptor, and a number, which the caller has checked.
            |at| Ok(unsafe { create(at, op.scale) }),
        )?;
        // CUBLASLT_MATRIX_TRANSFORM_DESC_POINTER_MODE, _TRANSA, _TRANSB.
        desc.set(1, alpha.mode() as i32)?;
        desc.set(2, op.transa as i32)?;
        desc.set(3, op.transb as i32)?;
        let (a, c) = (self.layout(&op.a)?, self.layout(&op.c)?);
        let b = match op.b.at.0 {
            0 => None,
            _ => Some(self.layout(&op.b)?),
        };
        let f = need(functions.cublasLtMatrixTransform)?;
        // SAFETY: as in `matmul`; B and its layout may be null.
        check(unsafe {
            f(
                self.raw,
                desc.raw,
                alpha.at(),
                op.a.at.0 as *const c_void,
                a.raw,
                beta.at(),
                op.b.at.0 as *const c_void,
                b.as_ref().map_or(null_mut(), |b| b.raw),
                op.c.at.0 as *mut c_void,
                c.raw,
                stream.raw,
            )
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // With its context, a handle's memory has gone already.
        let Ok(_alive) = self.ctx.enter() else { return };
        let Ok(f) = need(self.library.functions.cublasLtDestroy) else {
            return;
        };
        // SAFETY: the handle that `create` got, and which is not used again.
        if let Err(status) = check(unsafe { f(self.raw) }) {
            tracing::debug!(?status, "cublasLtDestroy");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_algorithms_are_remembered_and_no_more() {
        let mut chosen = Chosen(HashMap::new());
        for i in 0..MAX_LT_ALGORITHMS {
            chosen.keep(vec![i as u64], ());
        }
        assert_eq!(chosen.0.len(), MAX_LT_ALGORITHMS);
        chosen.keep(vec![u64::MAX], ());
        assert_eq!(chosen.0.len(), 1);
    }
}
