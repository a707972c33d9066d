//! The cuBLAS library against a plain model in double precision.

mod arguments;
mod bad;
mod captured;
mod dense;
mod element;
mod ex;
mod gemm;
mod lapack;
mod level1;
mod level2;
mod level3;
pub mod lt;
mod rest;
mod trsm;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{CString, c_void};
use std::ptr;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

pub use element::{C64, Type};

/// A library that was loaded, with a handle.
pub struct Blas {
    library: *mut c_void,
    /// Its soname.
    pub name: String,
    handle: u64,
    /// Calls go to the functions with 64-bit sizes, where there are such.
    wide: bool,
    called: Called,
}

/// The functions that have done what they were asked to.
#[derive(Default)]
pub struct Called(RefCell<BTreeSet<String>>);

impl Called {
    fn note(&self, name: &str, status: u32) {
        if status == 0 {
            self.0.borrow_mut().insert(name.to_owned());
        }
    }

    /// Compares them with those of a list that the library has: the number of what is missing.
    fn missing(&self, library: &str, list: &str, has: impl Fn(&str) -> bool) -> usize {
        let called = self.0.borrow();
        let missing: Vec<&str> = list
            .lines()
            .filter(|name| has(name) && !called.contains(*name))
            .collect();
        if !missing.is_empty() {
            println!(
                "FAIL {library} calls: nobody has called {}",
                missing.join(" ")
            );
        }
        let new: Vec<&str> = called
            .iter()
            .map(String::as_str)
            .filter(|name| !list.lines().any(|line| line == *name))
            .collect();
        if !new.is_empty() {
            println!(
                "{library}: these belong into the list of what is called: {}",
                new.join(" ")
            );
        }
        missing.len()
    }
}

/// What an argument becomes for a function with 64-bit sizes (cublas_api.h: `int` is `int64_t` there).
trait Wide {
    type To;
    fn wide(self) -> Self::To;
}

macro_rules! wide {
    ($($from:ty => $to:ty),*) => {$(
        impl Wide for $from {
            type To = $to;
            fn wide(self) -> $to {
                self.into()
            }
        }
    )*};
}
wide! { i32 => i64, i64 => i64, u32 => u32, u64 => u64, usize => usize }

impl<T> Wide for *const T {
    type To = *const T;
    fn wide(self) -> *const T {
        self
    }
}

impl<T> Wide for *mut T {
    type To = *mut T;
    fn wide(self) -> *mut T {
        self
    }
}

/// Statuses that are compared with.
pub const NOT_INITIALIZED: u32 = 1;
/// See above.
pub const INVALID_VALUE: u32 = 7;
/// See above.
pub const NOT_SUPPORTED: u32 = 15;

/// Calls a function of the library by name: `call!(blas, "name", (types) , (values))` gives the
/// `cublasStatus_t`.
macro_rules! call {
    ($blas:expr, $name:expr, $($value:expr => $ty:ty),* $(,)?) => {{
        let status: u32 = match $blas.wide_symbol($name) {
            // SAFETY: the function of this name has these parameters (cublas_api.h), its twin for 64-bit sizes the
            // wider ones; device memory is only named here.
            Some(at) => unsafe {
                let function: unsafe extern "C" fn($(<$ty as crate::blas::Wide>::To),*) -> u32 = std::mem::transmute(at);
                function($(<$ty as crate::blas::Wide>::wide($value)),*)
            },
            None => {
                let at = $blas.symbol($name)?;
                // SAFETY: as above.
                unsafe {
                    let function: unsafe extern "C" fn($($ty),*) -> u32 = std::mem::transmute(at);
                    function($($value),*)
                }
            }
        };
        $blas.note($name, status);
        status
    }};
}
pub(crate) use call;

impl Blas {
    /// Loads a library and makes a handle.
    pub fn open(name: &str) -> Result<Blas> {
        let text = CString::new(name)?;
        // SAFETY: a NUL-terminated name; the library is trusted as any program trusts it.
        let library = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        ensure!(!library.is_null(), "{name} cannot be loaded");
        let mut blas = Blas {
            library,
            name: name.to_owned(),
            handle: 0,
            wide: false,
            called: Called::default(),
        };
        blas.handle = blas.create()?;
        Ok(blas)
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

    /// The twin for 64-bit sizes, where such are called and there is one.
    fn wide_symbol(&self, name: &str) -> Option<*mut c_void> {
        let found = self.wide.then(|| self.symbol(&format!("{name}_64")));
        found.and_then(Result::ok)
    }

    fn note(&self, name: &str, status: u32) {
        match self.wide_symbol(name) {
            Some(_) => self.called.note(&format!("{name}_64"), status),
            None => self.called.note(name, status),
        }
    }

    /// Numbers as an array of C's `int`, or of `int64_t` where the function takes those.
    fn numbers(&self, name: &str, values: &[i32]) -> Vec<u8> {
        let wide = self.wide_symbol(name).is_some();
        let encode = |v: &i32| match wide {
            true => i64::from(*v).to_ne_bytes().to_vec(),
            false => v.to_ne_bytes().to_vec(),
        };
        values.iter().flat_map(encode).collect()
    }

    /// True where the library has a function.
    pub fn has(&self, name: &str) -> bool {
        self.symbol(name).is_ok()
    }

    /// A handle of its own.
    pub fn create(&self) -> Result<u64> {
        let mut handle = 0u64;
        let status = call!(self, "cublasCreate_v2", &raw mut handle => *mut u64);
        ensure!(status == 0, "cublasCreate_v2: {status}");
        Ok(handle)
    }

    /// The handle that was made with the library.
    pub fn handle(&self) -> u64 {
        self.handle
    }

    /// `CUBLAS_POINTER_MODE_DEVICE` or `_HOST`.
    pub fn pointer_mode(&self, device: bool) -> Result<()> {
        let status =
            call!(self, "cublasSetPointerMode_v2", self.handle => u64, u32::from(device) => u32);
        ensure!(status == 0, "cublasSetPointerMode_v2: {status}");
        Ok(())
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        let destroy = || -> Result<u32> { Ok(call!(self, "cublasDestroy_v2", self.handle => u64)) };
        let _ = destroy();
    }
}

/// One test: a name, and what it does.
pub type Test = (&'static str, fn(&Blas) -> Result<()>);

/// All of them.
pub fn tests() -> Vec<Test> {
    [
        gemm::TESTS,
        trsm::TESTS,
        level1::TESTS,
        level2::TESTS,
        level3::TESTS,
        lapack::TESTS,
        ex::TESTS,
        captured::TESTS,
        bad::TESTS,
        arguments::TESTS,
        rest::TESTS,
    ]
    .concat()
}

/// Fails unless a call returned success.
fn ok(name: &str, status: u32) -> Result<()> {
    ensure!(status == 0, "{name} returned {status}");
    Ok(())
}

/// Numbers that look random, the same in each run.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    /// From -1 to 1; for integers from -100 to 100.
    fn value(&mut self, ty: Type) -> C64 {
        let mut one = || (self.next() % 20_001) as f64 / 10_000.0 - 1.0;
        let (re, im) = (one(), one());
        let scale = if ty.is_integer() { 100.0 } else { 1.0 };
        let value = C64 {
            re: re * scale,
            im: if ty.is_complex() { im * scale } else { 0.0 },
        };
        ty.round(value)
    }
}

/// A column-major matrix in device memory, with its values here.
struct Matrix {
    ty: Type,
    rows: usize,
    ld: usize,
    values: Vec<C64>,
    memory: crate::cuda::Buffer<u8>,
}

impl Matrix {
    fn new(ty: Type, rows: usize, cols: usize, pad: usize, random: &mut Random) -> Result<Matrix> {
        let ld = (rows + pad).max(1);
        let values: Vec<C64> = (0..ld * cols.max(1)).map(|_| random.value(ty)).collect();
        Matrix::of(ty, rows, ld, values)
    }

    fn of(ty: Type, rows: usize, ld: usize, values: Vec<C64>) -> Result<Matrix> {
        let memory = crate::cuda::Buffer::from(&encode(ty, &values))?;
        Ok(Matrix {
            ty,
            rows,
            ld,
            values,
            memory,
        })
    }

    fn at(&self) -> u64 {
        self.memory.address()
    }

    fn get(&self, i: usize, j: usize) -> C64 {
        self.values[i + j * self.ld]
    }

    /// Element (i, j) of op(self).
    fn op(&self, operation: u32, i: usize, j: usize) -> C64 {
        match operation {
            0 => self.get(i, j),
            1 => self.get(j, i),
            _ => self.get(j, i).conj(),
        }
    }

    /// What is in device memory now.
    fn read(&self) -> Result<Vec<C64>> {
        let bytes = self.memory.read()?;
        let size = self.ty.bytes();
        Ok(bytes.chunks(size).map(|raw| self.ty.decode(raw)).collect())
    }

    /// Compares device memory: elements of the matrix within their bounds, those between the columns
    /// bit by bit.
    fn compare(&self, what: &str, mut want: impl FnMut(usize, usize) -> (C64, f64)) -> Result<()> {
        for (at, (got, old)) in self.read()?.into_iter().zip(&self.values).enumerate() {
            let (i, j) = (at % self.ld, at / self.ld);
            if i >= self.rows {
                ensure!(
                    got.same(*old),
                    "{what}: padding at ({i}, {j}) became {got:?}"
                );
                continue;
            }
            let (want, bound) = want(i, j);
            if !got.near(want, bound) {
                bail!("{what}: ({i}, {j}) is {got:?}, not {want:?} within {bound:e}");
            }
        }
        Ok(())
    }
}

fn encode(ty: Type, values: &[C64]) -> Vec<u8> {
    values.iter().flat_map(|v| ty.encode(*v)).collect()
}

/// An array of addresses in device memory.
fn addresses(list: &[u64]) -> Result<crate::cuda::Buffer<u64>> {
    crate::cuda::Buffer::from(list)
}

/// Runs all tests on a library; gives the number of those that failed.
pub fn run(name: &str, only: Option<&str>) -> Result<usize> {
    let mut blas = Blas::open(name).with_context(|| name.to_owned())?;
    let mut failed = 0;
    for wide in [false, true] {
        blas.wide = wide;
        if wide && !blas.has("cublasSgemm_v2_64") {
            break;
        }
        let suffix = if wide { "_64" } else { "" };
        for (test, body) in tests() {
            if only.is_some_and(|only| only != test) {
                continue;
            }
            match body(&blas) {
                Ok(()) => println!("PASS {name} {test}{suffix}"),
                Err(error) => {
                    println!("FAIL {name} {test}{suffix}: {error:#}");
                    failed += 1;
                }
            }
        }
    }
    if only.is_none() {
        let list = include_str!("blas/called.txt");
        failed += blas.called.missing(name, list, |f| blas.has(f));
    }
    Ok(failed)
}

fn null<T>() -> *const T {
    ptr::null()
}

/// Waits for the device.
fn synchronize() -> Result<(), crate::cuda::Failed> {
    // SAFETY: no preconditions.
    unsafe { crate::call!(cuCtxSynchronize()) }
}

/// A number as C's `int`.
fn int(value: usize) -> Result<i32> {
    i32::try_from(value).map_err(|_| anyhow!("{value} is too large"))
}
