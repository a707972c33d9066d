//! The cublasLt library against a plain model in double precision.

mod algorithms;
mod bad;
mod epilogues;
mod products;
mod transforms;

use std::ffi::{CString, c_void};
use std::ptr;

use anyhow::{Context as _, Result, bail, ensure};

use super::{INVALID_VALUE, Matrix, NOT_INITIALIZED, NOT_SUPPORTED, Random, call, int, ok};
use super::{element::C64, element::Type, encode, gemm};

/// A library that was loaded, with a handle.
pub struct Lt {
    library: *mut c_void,
    /// Its soname.
    pub name: String,
    handle: u64,
    called: super::Called,
}

/// One test: a name, and what it does.
pub type Test = (&'static str, fn(&Lt) -> Result<()>);

impl Lt {
    /// Loads a library and makes a handle.
    pub fn open(name: &str) -> Result<Lt> {
        let text = CString::new(name)?;
        // SAFETY: a NUL-terminated name; the library is trusted as any program trusts it.
        let library = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        ensure!(!library.is_null(), "{name} cannot be loaded");
        let mut lt = Lt {
            library,
            name: name.to_owned(),
            handle: 0,
            called: super::Called::default(),
        };
        let mut handle = 0u64;
        let status = call!(lt, "cublasLtCreate", &raw mut handle => *mut u64);
        ok("cublasLtCreate", status)?;
        lt.handle = handle;
        Ok(lt)
    }

    /// The address of a function.
    pub fn symbol(&self, name: &str) -> Result<*mut c_void> {
        let text = CString::new(name)?;
        // SAFETY: a loaded library and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.library, text.as_ptr()) };
        if at.is_null() {
            bail!("{} has no {name}", self.name);
        }
        Ok(at)
    }

    /// No function here has a twin for 64-bit sizes.
    fn wide_symbol(&self, _name: &str) -> Option<*mut c_void> {
        None
    }

    fn note(&self, name: &str, status: u32) {
        self.called.note(name, status);
    }

    /// Its major version, by the soname.
    fn major(&self) -> u32 {
        let last = self.name.rsplit('.').next().unwrap_or_default();
        last.parse().unwrap_or(0)
    }
}

impl Drop for Lt {
    fn drop(&mut self) {
        let destroy = || -> Result<u32> { Ok(call!(self, "cublasLtDestroy", self.handle => u64)) };
        let _ = destroy();
    }
}

/// A descriptor that the library has made, destroyed at the end.
struct Object<'a> {
    lt: &'a Lt,
    kind: &'static str,
    at: u64,
}

impl Object<'_> {
    fn set<T: Copy>(&self, which: u32, value: T) -> Result<()> {
        let status = self.try_set(which, value)?;
        ensure!(status == 0, "{} attribute {which}: {status}", self.kind);
        Ok(())
    }

    fn try_set<T: Copy>(&self, which: u32, value: T) -> Result<u32> {
        let name = format!("cublasLt{}SetAttribute", self.kind);
        let at = (&raw const value).cast::<c_void>();
        Ok(
            call!(self.lt, &name, self.at => u64, which => u32, at => *const c_void, size_of::<T>() => usize),
        )
    }

    fn get<T: Copy + Default>(&self, which: u32) -> Result<T> {
        let name = format!("cublasLt{}GetAttribute", self.kind);
        let (mut value, mut written) = (T::default(), 0usize);
        let at = (&raw mut value).cast::<c_void>();
        let status = call!(self.lt, &name, self.at => u64, which => u32, at => *mut c_void,
            size_of::<T>() => usize, &raw mut written => *mut usize);
        ok(&name, status)?;
        ensure!(written == size_of::<T>(), "{name} has written {written}");
        Ok(value)
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        let name = format!("cublasLt{}Destroy", self.kind);
        let destroy = || -> Result<u32> { Ok(call!(self.lt, &name, self.at => u64)) };
        let _ = destroy();
    }
}

impl Lt {
    fn operation(&self, compute: u32, scale: Type) -> Result<Object<'_>> {
        let mut at = 0u64;
        let status = call!(self, "cublasLtMatmulDescCreate",
            &raw mut at => *mut u64, compute => u32, scale as u32 => u32);
        ok("cublasLtMatmulDescCreate", status)?;
        Ok(Object {
            lt: self,
            kind: "MatmulDesc",
            at,
        })
    }

    fn layout(&self, ty: Type, rows: usize, cols: usize, ld: usize) -> Result<Object<'_>> {
        let mut at = 0u64;
        let status = call!(self, "cublasLtMatrixLayoutCreate", &raw mut at => *mut u64,
            ty as u32 => u32, rows as u64 => u64, cols as u64 => u64, ld as i64 => i64);
        ok("cublasLtMatrixLayoutCreate", status)?;
        Ok(Object {
            lt: self,
            kind: "MatrixLayout",
            at,
        })
    }

    /// `D = factor A B` of 8 × 8 matrices, in a stream.
    pub(super) fn scaled(
        &self,
        a: &Matrix,
        b: &Matrix,
        d: &Matrix,
        factor: f32,
        stream: u64,
    ) -> Result<()> {
        let operation = self.operation(68, Type::F32)?;
        let layout = self.layout(Type::F32, 8, 8, 8)?;
        let zero = 0f32;
        let status = call!(self, "cublasLtMatmul", self.handle => u64, operation.at => u64, &raw const factor => *const f32,
            a.at() => u64, layout.at => u64, b.at() => u64, layout.at => u64, &raw const zero => *const f32,
            d.at() => u64, layout.at => u64, d.at() => u64, layout.at => u64,
            null() => *const c_void, 0 => u64, 0 => usize, stream => u64);
        ok("cublasLtMatmul", status)
    }

    fn preference(&self) -> Result<Object<'_>> {
        let mut at = 0u64;
        let status = call!(self, "cublasLtMatmulPreferenceCreate", &raw mut at => *mut u64);
        ok("cublasLtMatmulPreferenceCreate", status)?;
        Ok(Object {
            lt: self,
            kind: "MatmulPreference",
            at,
        })
    }
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
struct Found {
    algorithm: [u64; 8],
    workspace: usize,
    state: u32,
    waves: f32,
    reserved: [i32; 4],
}

/// A matrix in device memory, in either order.
struct Ordered {
    /// Column-major; of order row its transpose.
    stored: Matrix,
    by_rows: bool,
}

impl Ordered {
    fn new(
        ty: Type,
        (rows, cols): (usize, usize),
        by_rows: bool,
        pad: usize,
        random: &mut Random,
    ) -> Result<Ordered> {
        let (r, c) = if by_rows { (cols, rows) } else { (rows, cols) };
        Ok(Ordered {
            stored: Matrix::new(ty, r, c, pad, random)?,
            by_rows,
        })
    }

    fn get(&self, i: usize, j: usize) -> C64 {
        if self.by_rows {
            self.stored.get(j, i)
        } else {
            self.stored.get(i, j)
        }
    }

    fn op(&self, operation: u32, i: usize, j: usize) -> C64 {
        match operation {
            0 => self.get(i, j),
            1 => self.get(j, i),
            _ => self.get(j, i).conj(),
        }
    }

    fn layout<'a>(&self, lt: &'a Lt, rows: usize, cols: usize) -> Result<Object<'a>> {
        let layout = lt.layout(self.stored.ty, rows, cols, self.stored.ld)?;
        if self.by_rows {
            layout.set(1, 1i32)?;
        }
        Ok(layout)
    }

    fn compare(&self, what: &str, want: impl Fn(usize, usize) -> (C64, f64)) -> Result<()> {
        let by_rows = self.by_rows;
        self.stored
            .compare(what, |i, j| if by_rows { want(j, i) } else { want(i, j) })
    }
}

/// All of them.
pub fn tests() -> Vec<Test> {
    [
        products::TESTS,
        epilogues::TESTS,
        transforms::TESTS,
        algorithms::TESTS,
        bad::TESTS,
        algorithms::LAST,
    ]
    .concat()
}

/// Runs all tests on a library; gives the number of those that failed.
pub fn run(name: &str, only: Option<&str>) -> Result<usize> {
    let lt = Lt::open(name).with_context(|| name.to_owned())?;
    let mut failed = 0;
    for (test, body) in tests() {
        if only.is_some_and(|only| only != test) {
            continue;
        }
        match body(&lt) {
            Ok(()) => println!("PASS {name} {test}"),
            Err(error) => {
                println!("FAIL {name} {test}: {error:#}");
                failed += 1;
            }
        }
    }
    if only.is_none() {
        let list = include_str!("lt/called.txt");
        failed += lt.called.missing(name, list, |f| lt.symbol(f).is_ok());
    }
    Ok(failed)
}

fn null() -> *const c_void {
    ptr::null()
}
