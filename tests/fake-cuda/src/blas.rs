//! A cuBLAS in the same file. It computes nothing: it looks at what it is given.
//!
//! * A handle must be a live one of the current context, and its stream a live one.
//! * Every vector, matrix, array of addresses, factor and result must lie in device memory, as far as
//!   NVIDIA's documentation says that the function touches it: the sizes are worked out here anew.
//! * A call that would wait for a kernel (a result in host memory, the end of a handle) ends the process.
//!
//! After the line of a call that succeeded the log has one with its arguments by their names in
//! `cublas_api.h`: `with stream=… mode=… math=… atomics=… n=3 alpha=0000803f …`; factors are shown as
//! their bytes. Each range of device memory that the function touches is shown as `touched=ADDRESS+BYTES`.
//! Results are bytes of [`RESULT`].

use std::collections::BTreeMap;
use std::ffi::{c_int, c_longlong, c_uint, c_void};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::object::wait_for_context;
use crate::state::{Handle, State, call, die};

mod ex;
mod gemm;
mod level1;
mod level2;
mod level3;

/// Every byte of a result.
pub const RESULT: u8 = 0x5a;

#[derive(Clone, Default)]
struct Blas {
    ctx: Handle,
    stream: Handle,
    device_pointers: bool,
    math: c_uint,
    atomics: c_uint,
}

static HANDLES: Mutex<BTreeMap<Handle, Blas>> = Mutex::new(BTreeMap::new());

fn handles() -> MutexGuard<'static, BTreeMap<Handle, Blas>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A context goes. Its handles must be gone, unless an error has ended it.
pub fn context_goes(ctx: Handle, works: bool) {
    let mut handles = handles();
    let before = handles.len();
    handles.retain(|_, blas| blas.ctx != ctx);
    if works && handles.len() < before {
        die("a context is destroyed before its handles of cuBLAS");
    }
}

fn get(state: &State, handle: Handle) -> Result<Blas, u32> {
    let Some(found) = handles().get(&handle).cloned() else {
        die(&format!("{handle:#x} is no handle of cuBLAS"))
    };
    if state.current()? != found.ctx {
        die("a handle of cuBLAS is used in another context");
    }
    Ok(found)
}

fn change(handle: Handle, to: impl FnOnce(&mut Blas)) {
    if let Some(found) = handles().get_mut(&handle) {
        to(found);
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cublasCreate_v2(out: *mut Handle) -> c_uint {
    call("cublasCreate_v2", |state| {
        let ctx = state.current()?;
        let handle = state.handle();
        let new = Blas {
            ctx,
            ..Blas::default()
        };
        handles().insert(handle, new);
        // SAFETY: NVIDIA's contract: a place for the handle.
        unsafe { *out = handle };
        Ok(())
    })
}

/// Whether this thread is the backend's for sessions that end with work left.
fn ends_a_session() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: room for the 16 bytes that the kernel writes.
    let told = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    told == 0 && name.starts_with(b"vgpu-cuda-end\0")
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasDestroy_v2(handle: Handle) -> c_uint {
    // It waits for the GPU: where a session ends it may, as `cuCtxDestroy`.
    let ctx = handles().get(&handle).map(|found| found.ctx);
    if let Some(ctx) = ctx.filter(|_| ends_a_session()) {
        wait_for_context(ctx);
    }
    call("cublasDestroy_v2", |state| {
        let found = get(state, handle)?;
        if !state.ctx_is_idle(found.ctx) {
            die("cublasDestroy would wait for the GPU");
        }
        handles().remove(&handle);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasSetStream_v2(handle: Handle, stream: Handle) -> c_uint {
    call("cublasSetStream_v2", |state| {
        let found = get(state, handle)?;
        if state.stream(stream)?.ctx != found.ctx {
            die("cublasSetStream: a stream of another context");
        }
        change(handle, |blas| blas.stream = stream);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasSetWorkspace_v2(handle: Handle, at: u64, bytes: usize) -> c_uint {
    call("cublasSetWorkspace_v2", |state| {
        get(state, handle)?;
        state.device(at, bytes as u64);
        Ok(())
    })
}

/// A function that sets one number.
fn set(
    name: &'static str,
    handle: Handle,
    value: c_uint,
    most: c_uint,
    to: fn(&mut Blas, c_uint),
) -> c_uint {
    call(name, |state| {
        get(state, handle)?;
        if value > most {
            return Err(INVALID_VALUE);
        }
        change(handle, |blas| to(blas, value));
        Ok(())
    })
}

/// `CUBLAS_STATUS_INVALID_VALUE`.
const INVALID_VALUE: u32 = 7;

#[unsafe(no_mangle)]
pub extern "C" fn cublasSetMathMode(handle: Handle, mode: c_uint) -> c_uint {
    set("cublasSetMathMode", handle, mode, 0x1f, |b, m| b.math = m)
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasSetAtomicsMode(handle: Handle, mode: c_uint) -> c_uint {
    set("cublasSetAtomicsMode", handle, mode, 1, |b, m| {
        b.atomics = m;
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cublasSetPointerMode_v2(handle: Handle, mode: c_uint) -> c_uint {
    set("cublasSetPointerMode_v2", handle, mode, 1, |b, m| {
        b.device_pointers = m == 1;
    })
}

/// A pointer to a factor or a result: to host or device memory, as the handle's mode says.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Scalar(*mut c_void);

/// An argument as the log shows it.
trait Shown {
    fn show(&self, name: &str, line: &mut String);
}

macro_rules! shown {
    ($($ty:ty)*) => {$(impl Shown for $ty {
        fn show(&self, name: &str, line: &mut String) {
            // A String takes all that is written to it.
            let _ = write!(line, " {name}={self}");
        }
    })*};
}
shown! { c_int c_uint c_longlong u64 }

impl Shown for Scalar {
    /// [`Looked::factor`] shows its bytes.
    fn show(&self, _: &str, _: &mut String) {}
}

/// One call that is looked at.
struct Looked<'a> {
    state: &'a mut State,
    blas: Blas,
    line: String,
    /// Device memory that the call touches: address and bytes.
    touched: Vec<(u64, i64)>,
    /// Reads something in host memory, or writes it there.
    waits: bool,
}

impl Looked<'_> {
    fn device(&mut self, at: u64, bytes: i64) {
        if bytes > 0 {
            self.state.device(at, bytes as u64);
            self.touched.push((at, bytes));
        }
    }

    /// `count` elements, `step` apart, of which the sign does not matter.
    fn vector(&mut self, at: u64, count: c_int, step: c_int, size: i64) {
        if count > 0 {
            let step = i64::from(step).abs();
            self.device(at, ((i64::from(count) - 1) * step + 1) * size);
        }
    }

    /// A matrix, column by column.
    fn matrix(&mut self, at: u64, rows: c_int, cols: c_int, ld: c_int, size: i64) {
        self.batch(at, rows, cols, ld, size, (0, 1));
    }

    /// Matrices at distances of `stride` elements.
    fn batch(
        &mut self,
        at: u64,
        rows: c_int,
        cols: c_int,
        ld: c_int,
        size: i64,
        (stride, count): (c_longlong, c_int),
    ) {
        if rows <= 0 || cols <= 0 || count <= 0 {
            return;
        }
        let one = ((i64::from(cols) - 1) * i64::from(ld) + i64::from(rows)) * size;
        for i in [0, i64::from(count) - 1] {
            self.device(at.wrapping_add_signed(i * stride * size), one);
        }
    }

    /// A band or a packed triangle of so many elements.
    fn elements(&mut self, at: u64, count: i64, size: i64) {
        self.device(at, count * size);
    }

    fn packed(&mut self, at: u64, n: c_int, size: i64) {
        let n = i64::from(n);
        self.elements(at, n * (n + 1) / 2, size);
    }

    fn band(&mut self, at: u64, n: c_int, diagonals: c_int, ld: c_int, size: i64) {
        if n > 0 {
            let columns = (i64::from(n) - 1) * i64::from(ld);
            self.elements(at, columns + i64::from(diagonals) + 1, size);
        }
    }

    /// An array of addresses.
    fn addresses(&mut self, at: u64, count: c_int) {
        self.device(at, 8 * i64::from(count));
    }

    /// Words for each matrix of a batch, where there is an array for them.
    fn optional(&mut self, at: u64, words: c_int, batch: c_int) {
        if at != 0 {
            self.device(at, 4 * i64::from(words) * i64::from(batch));
        }
    }

    fn host_word(&mut self, at: u64) {
        // SAFETY: NVIDIA's contract: a place for a number in host memory.
        unsafe { *(at as *mut c_int) = 0 };
    }

    fn factor(&mut self, name: &str, at: Scalar, bytes: i64) {
        let bytes = bytes as usize;
        let raw = if self.blas.device_pointers {
            self.touched.push((at.0 as u64, bytes as i64));
            self.state.device(at.0 as u64, bytes as u64).to_vec()
        } else {
            // SAFETY: NVIDIA's contract: a factor of this size in host memory.
            unsafe { std::slice::from_raw_parts(at.0.cast::<u8>(), bytes) }.to_vec()
        };
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = write!(self.line, " {name}={hex}");
    }

    fn result(&mut self, at: Scalar, bytes: i64) {
        let bytes = bytes as usize;
        if self.blas.device_pointers {
            self.touched.push((at.0 as u64, bytes as i64));
            self.state.device(at.0 as u64, bytes as u64).fill(RESULT);
        } else {
            self.waits = true;
            // SAFETY: NVIDIA's contract: a place of this size in host memory.
            unsafe { std::slice::from_raw_parts_mut(at.0.cast::<u8>(), bytes) }.fill(RESULT);
        }
        let _ = write!(self.line, " result={bytes}");
    }
}

/// Looks at a call and writes its line.
fn look(
    name: &'static str,
    handle: Handle,
    arguments: &[(&str, &dyn Shown)],
    body: impl FnOnce(&mut Looked<'_>),
) -> c_uint {
    let mut line = String::new();
    let result = call(name, |state| {
        let blas = get(state, handle)?;
        // A handle keeps the address of a stream that is gone: it must not be used then.
        state.stream(blas.stream)?;
        let stream = if blas.stream == 0 {
            blas.ctx
        } else {
            blas.stream
        };
        let mut looked = Looked {
            line: format!(
                "with stream={} mode={} math={} atomics={}",
                blas.stream,
                u32::from(blas.device_pointers),
                blas.math,
                blas.atomics
            ),
            state,
            blas,
            touched: Vec::new(),
            waits: false,
        };
        for (name, argument) in arguments {
            argument.show(name, &mut looked.line);
        }
        body(&mut looked);
        if looked.waits && !looked.state.is_idle(stream) {
            die(&format!("{name} would wait for the stream"));
        }
        line = looked.line;
        for (at, bytes) in looked.touched {
            let _ = write!(line, " touched={at}+{bytes}");
        }
        Ok(())
    });
    if result == 0 {
        crate::state::lock().write(&line);
    }
    result
}

/// Sizes of a function's parameters.
trait Parameters: Copy {
    const SIZES: &'static [usize];
}

macro_rules! parameters {
    (@ [$($done:ident)*] $next:ident $($rest:ident)*) => {
        impl<R, $($done,)* $next> Parameters for unsafe fn($($done,)* $next) -> R {
            const SIZES: &'static [usize] = &[$(size_of::<$done>(),)* size_of::<$next>()];
        }
        parameters! { @ [$($done)* $next] $($rest)* }
    };
    (@ [$($done:ident)*]) => {};
}
parameters! { @ [] A B C D E F G H I J K L M N O P Q S T U V W X }

const fn sizes<F: Parameters>(_: F) -> &'static [usize] {
    F::SIZES
}

const fn are_same(one: &[usize], other: &[usize]) -> bool {
    let mut i = 0;
    while i < one.len() && i < other.len() {
        if one[i] != other[i] {
            return false;
        }
        i += 1;
    }
    one.len() == other.len()
}

/// In place of a type.
macro_rules! any {
    ($ty:ty) => {
        _
    };
}
use any;

/// Functions of these names that differ in the size of an element; the parameters after the handle; what of
/// them must be device memory. Number and sizes of the parameters are compared with `cublas_api.h`, as
/// `cudarc` has it; for a name that it lacks, with those of another one.
macro_rules! routines {
    ($([$($name:ident $(= $like:ident)? $size:literal),* $(,)?] $params:tt |$looked:ident, $t:ident| $body:block)*) => {
        $($(routines! { @ $name [$($like)? $name] $size $params $looked $t $body })*)*
    };
    (@ $name:ident [$like:ident $($own:ident)?] $size:literal ($($p:ident: $ty:ty),* $(,)?) $looked:ident $t:ident $body:block) => {
        const _: () = assert!($crate::blas::are_same(
            $crate::blas::sizes(
                cudarc::cublas::sys::$like as unsafe fn(_, $($crate::blas::any!($ty)),*) -> _,
            ),
            &[8, $(size_of::<$ty>()),*],
        ));

        #[unsafe(no_mangle)]
        #[allow(clippy::too_many_arguments, reason = "NVIDIA's")]
        pub extern "C" fn $name(handle: $crate::state::Handle, $($p: $ty),*) -> std::ffi::c_uint {
            let arguments: &[(&str, &dyn $crate::blas::Shown)] = &[$((stringify!($p), &$p)),*];
            #[allow(unused_variables, reason = "not all touch elements")]
            let $t: i64 = $size;
            $crate::blas::look(stringify!($name), handle, arguments, |$looked| $body)
        }
    };
}
use routines;

/// Bytes of an element of a `cudaDataType`.
fn bytes_of(ty: c_uint) -> i64 {
    match ty {
        3 => 1,
        2 | 7 | 14 => 2,
        0 | 10 => 4,
        1 | 4 => 8,
        5 => 16,
        _ => die(&format!("{ty} is no type of elements")),
    }
}
