//! A few functions of cublasLt, in the same file: products of single precision, column by column, computed at
//! once; transformations are only looked at. Every matrix, bias and workspace must lie in device memory, whatever its types; every descriptor must be
//! a live one, and an algorithm one that a heuristic has given.

use std::collections::BTreeMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::state::{Handle, State, call, die};

/// A descriptor: numbers by attribute; of a layout with its sizes.
#[derive(Clone, Default)]
struct Object {
    kind: &'static str,
    attributes: BTreeMap<u32, i64>,
    ty: u32,
    rows: u64,
    cols: u64,
    ld: i64,
}

static OBJECTS: Mutex<BTreeMap<Handle, Object>> = Mutex::new(BTreeMap::new());

/// First word of the algorithms that the heuristic gives.
const ALGORITHM: u64 = 0x1234_5678;

fn objects() -> MutexGuard<'static, BTreeMap<Handle, Object>> {
    OBJECTS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create(name: &'static str, out: *mut Handle, object: Object) -> c_uint {
    call(name, |state| {
        let handle = state.handle();
        objects().insert(handle, object);
        // SAFETY: NVIDIA's contract: a place for the handle.
        unsafe { *out = handle };
        Ok(())
    })
}

fn get(handle: Handle, kind: &str) -> Object {
    match objects().get(&handle) {
        Some(object) if object.kind == kind => object.clone(),
        _ => die(&format!("{handle:#x} is no {kind} of cublasLt")),
    }
}

fn destroy(name: &'static str, handle: Handle, kind: &str) -> c_uint {
    get(handle, kind);
    call(name, |_| {
        objects().remove(&handle);
        Ok(())
    })
}

/// # Safety
/// NVIDIA's contract: so many readable bytes.
unsafe fn set(
    handle: Handle,
    kind: &str,
    which: c_uint,
    at: *const c_void,
    bytes: usize,
) -> c_uint {
    get(handle, kind);
    let mut raw = [0u8; 8];
    // SAFETY: the caller's contract.
    unsafe { std::ptr::copy_nonoverlapping(at.cast(), raw.as_mut_ptr(), bytes.min(8)) };
    let value = match bytes {
        4 => i64::from(i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])),
        8 => i64::from_le_bytes(raw),
        _ => return 7,
    };
    if let Some(object) = objects().get_mut(&handle) {
        object.attributes.insert(which, value);
    }
    0
}

fn of(kind: &'static str) -> Object {
    Object {
        kind,
        ..Object::default()
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtCreate(out: *mut Handle) -> c_uint {
    create("cublasLtCreate", out, of("handle"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtDestroy(handle: Handle) -> c_uint {
    destroy("cublasLtDestroy", handle, "handle")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulDescCreate(
    out: *mut Handle,
    compute: c_uint,
    scale: c_uint,
) -> c_uint {
    let mut object = of("product");
    object.attributes.insert(0, compute.into());
    object.attributes.insert(1, scale.into());
    create("cublasLtMatmulDescCreate", out, object)
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatmulDescDestroy(desc: Handle) -> c_uint {
    destroy("cublasLtMatmulDescDestroy", desc, "product")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulDescSetAttribute(
    desc: Handle,
    which: c_uint,
    at: *const c_void,
    bytes: usize,
) -> c_uint {
    // SAFETY: NVIDIA's contract.
    unsafe { set(desc, "product", which, at, bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixLayoutCreate(
    out: *mut Handle,
    ty: c_uint,
    rows: u64,
    cols: u64,
    ld: i64,
) -> c_uint {
    let object = Object {
        kind: "layout",
        attributes: BTreeMap::new(),
        ty,
        rows,
        cols,
        ld,
    };
    create("cublasLtMatrixLayoutCreate", out, object)
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatrixLayoutDestroy(layout: Handle) -> c_uint {
    destroy("cublasLtMatrixLayoutDestroy", layout, "layout")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixLayoutSetAttribute(
    layout: Handle,
    which: c_uint,
    at: *const c_void,
    bytes: usize,
) -> c_uint {
    // SAFETY: NVIDIA's contract.
    unsafe { set(layout, "layout", which, at, bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulPreferenceCreate(out: *mut Handle) -> c_uint {
    create("cublasLtMatmulPreferenceCreate", out, of("preference"))
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatmulPreferenceDestroy(preference: Handle) -> c_uint {
    destroy("cublasLtMatmulPreferenceDestroy", preference, "preference")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: Handle,
    which: c_uint,
    at: *const c_void,
    bytes: usize,
) -> c_uint {
    // SAFETY: NVIDIA's contract.
    unsafe { set(preference, "preference", which, at, bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    handle: Handle,
    desc: Handle,
    a: Handle,
    b: Handle,
    c: Handle,
    d: Handle,
    preference: Handle,
    wanted: c_int,
    results: *mut [u64; 12],
    count: *mut c_int,
) -> c_uint {
    get(handle, "handle");
    get(desc, "product");
    for layout in [a, b, c, d] {
        get(layout, "layout");
    }
    get(preference, "preference");
    if wanted != 1 {
        die("there is room for one result");
    }
    call("cublasLtMatmulAlgoGetHeuristic", |_| {
        // SAFETY: NVIDIA's contract: places for one result, whose status and workspace are 0, and the
        // count.
        unsafe {
            *results = [0; 12];
            (*results)[0] = ALGORITHM;
            *count = 1;
        }
        Ok(())
    })
}

/// Bytes of an element.
fn size(ty: u32) -> u64 {
    match ty {
        3 => 1,
        2 | 14 => 2,
        0 | 10 => 4,
        1 | 4 => 8,
        _ => 16,
    }
}

/// All bytes of a matrix, or of a batch at positive distances, must be device memory.
fn require(state: &mut State, layout: &Object, at: u64) {
    let number =
        |which: u32, default: i64| layout.attributes.get(&which).copied().unwrap_or(default);
    let by_rows = number(1, 0) == 1;
    let (along, across) = match by_rows {
        true => (layout.cols, layout.rows),
        false => (layout.rows, layout.cols),
    };
    let one = (across - 1) * layout.ld as u64 + along;
    let all = (number(5, 1) as u64 - 1) * number(6, 0) as u64 + one;
    state.device(at, all * size(layout.ty));
}

fn float(state: &mut State, at: u64) -> f32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(state.device(at, 4));
    f32::from_le_bytes(raw)
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn cublasLtMatmul(
    handle: Handle,
    desc: Handle,
    alpha: *const f32,
    a: u64,
    a_layout: Handle,
    b: u64,
    b_layout: Handle,
    beta: *const f32,
    c: u64,
    c_layout: Handle,
    d: u64,
    d_layout: Handle,
    algorithm: *const u64,
    workspace: u64,
    bytes: usize,
    _stream: Handle,
) -> c_uint {
    get(handle, "handle");
    let desc = get(desc, "product");
    let [la, lb, lc, ld] = [a_layout, b_layout, c_layout, d_layout].map(|l| get(l, "layout"));
    // SAFETY: NVIDIA's contract: an algorithm.
    if unsafe { *algorithm } != ALGORITHM {
        die("an algorithm that no heuristic has given");
    }
    call("cublasLtMatmul", |state| {
        for (layout, at) in [(&la, a), (&lb, b), (&ld, d)] {
            require(state, layout, at);
        }
        if bytes > 0 {
            state.device(workspace, bytes as u64);
        }
        let number = |which: u32| desc.attributes.get(&which).copied().unwrap_or(0);
        let device = number(2) == 1;
        let mut factor = |at: *const f32| match device {
            true => float(state, at as u64),
            // SAFETY: NVIDIA's contract: a number in host memory.
            false => unsafe { *at },
        };
        let (alpha, beta) = (factor(alpha), factor(beta));
        if beta != 0.0 {
            require(state, &lc, c);
        }
        let bias = (number(7) & 4 != 0).then_some(number(8) as u64);
        if let Some(bias) = bias {
            state.device(bias, ld.rows * size(ld.ty));
        }
        if la.ty != 0 || number(3) != 0 || number(4) != 0 {
            // Only looked at.
            return Ok(());
        }
        let place = |layout: &Object, at: u64, i: u64, j: u64| at + 4 * (i + j * layout.ld as u64);
        for (i, j) in (0..ld.rows).flat_map(|i| (0..ld.cols).map(move |j| (i, j))) {
            let mut sum = 0.0;
            for p in 0..la.cols {
                sum += float(state, place(&la, a, i, p)) * float(state, place(&lb, b, p, j));
            }
            let mut value = alpha * sum;
            if beta != 0.0 {
                value += beta * float(state, place(&lc, c, i, j));
            }
            if let Some(bias) = bias {
                value += float(state, bias + 4 * i);
            }
            let to = place(&ld, d, i, j);
            state.device(to, 4).copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixTransformDescCreate(
    out: *mut Handle,
    scale: c_uint,
) -> c_uint {
    let mut object = of("transformation");
    object.attributes.insert(0, scale.into());
    create("cublasLtMatrixTransformDescCreate", out, object)
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasLtMatrixTransformDescDestroy(desc: Handle) -> c_uint {
    destroy("cublasLtMatrixTransformDescDestroy", desc, "transformation")
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasLtMatrixTransformDescSetAttribute(
    desc: Handle,
    which: c_uint,
    at: *const c_void,
    bytes: usize,
) -> c_uint {
    // SAFETY: NVIDIA's contract.
    unsafe { set(desc, "transformation", which, at, bytes) }
}

#[unsafe(no_mangle)]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C" fn cublasLtMatrixTransform(
    handle: Handle,
    desc: Handle,
    alpha: *const f32,
    a: u64,
    a_layout: Handle,
    beta: *const f32,
    b: u64,
    b_layout: Handle,
    c: u64,
    c_layout: Handle,
    _stream: Handle,
) -> c_uint {
    get(handle, "handle");
    let device = get(desc, "transformation").attributes.get(&1) == Some(&1);
    let (la, lc) = (get(a_layout, "layout"), get(c_layout, "layout"));
    // B and its layout may be null.
    let lb = (b != 0).then(|| get(b_layout, "layout"));
    call("cublasLtMatrixTransform", |state| {
        require(state, &la, a);
        require(state, &lc, c);
        if let Some(lb) = &lb {
            require(state, lb, b);
        }
        if device {
            float(state, alpha as u64);
            float(state, beta as u64);
        }
        Ok(())
    })
}
