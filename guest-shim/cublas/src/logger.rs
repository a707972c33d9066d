//! The library's log (cuBLAS, "cuBLAS Logging"): off, until the program or its environment asks for it. A
//! line for each call, with what it returned.
#![allow(unsafe_code)] // The program's callback and its texts.

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::abi::{INVALID, Out, exports};
use crate::status;

static ON: AtomicBool = AtomicBool::new(false);
/// `cublasLogCallback`, as a number; 0 for none.
static CALLBACK: AtomicUsize = AtomicUsize::new(0);

/// Where lines go, beside the callback.
#[derive(Default)]
struct Sinks {
    output: bool,
    error: bool,
    file: Option<File>,
}

static SINKS: Mutex<Sinks> = Mutex::new(Sinks {
    output: false,
    error: false,
    file: None,
});

fn set(sinks: Sinks) {
    *SINKS.lock().unwrap_or_else(PoisonError::into_inner) = sinks;
}

/// What the environment says, at the first call: CUBLAS_LOGINFO_DBG and CUBLAS_LOGDEST_DBG.
fn environment() {
    static READ: Once = Once::new();
    READ.call_once(|| {
        if std::env::var("CUBLAS_LOGINFO_DBG").as_deref() != Ok("1") {
            return;
        }
        let Ok(to) = std::env::var("CUBLAS_LOGDEST_DBG") else {
            return;
        };
        let file = match to.as_str() {
            "stdout" | "stderr" => None,
            path => File::create(path).ok(),
        };
        set(Sinks {
            output: to == "stdout",
            error: to == "stderr",
            file,
        });
        ON.store(true, Ordering::Relaxed);
    });
}

/// Logs what an export has returned.
pub fn returned(name: &str, result: u32) {
    environment();
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    let text = format!(
        "cuBLAS {name} returned {}\n",
        status::name_of(result).to_string_lossy()
    );
    let callback = CALLBACK.load(Ordering::Acquire);
    if callback != 0
        && let Ok(text) = CString::new(text.as_str())
    {
        // SAFETY: a `cublasLogCallback` that the program has set, and a string that lives until it returns.
        unsafe {
            let call = std::mem::transmute::<usize, unsafe extern "C" fn(*const c_char)>(callback);
            call(text.as_ptr());
        }
    }
    let mut sinks = SINKS.lock().unwrap_or_else(PoisonError::into_inner);
    if sinks.output {
        print!("{text}");
    }
    if sinks.error {
        eprint!("{text}");
    }
    if let Some(file) = &mut sinks.file {
        // A log that cannot be written must not fail the call.
        let _ = file.write_all(text.as_bytes());
    }
}

/// A file's name that the program gives; null for none.
#[repr(transparent)]
pub struct Path(*const c_char);

impl Path {
    fn open(&self) -> Result<Option<File>, std::io::Error> {
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: not null, so by cuBLAS's contract a NUL-terminated string.
        let text = unsafe { CStr::from_ptr(self.0) }.to_string_lossy();
        if text.is_empty() {
            return Ok(None);
        }
        File::create(&*text).map(Some)
    }
}

exports! {
    /// Switches the log on or off, and says where it goes.
    fn cublasLoggerConfigure(on: i32, to_output: i32, to_error: i32, path: Path) {
        environment();
        let file = path.open().map_err(|_| INVALID)?;
        set(Sinks {
            output: to_output != 0,
            error: to_error != 0,
            file,
        });
        ON.store(on != 0, Ordering::Relaxed);
        Ok(())
    }

    /// Sets the callback; null for none.
    fn cublasSetLoggerCallback(callback: usize) {
        CALLBACK.store(callback, Ordering::Release);
        Ok(())
    }

    /// The callback that was set.
    fn cublasGetLoggerCallback(out: Out<usize>) {
        out.set(CALLBACK.load(Ordering::Acquire))
    }
}
