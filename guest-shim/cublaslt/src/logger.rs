//! The library's log (cuBLAS, "cublasLt Logging"): off, until the program or its environment asks for it.
//! Errors are logged, and with "API Trace" every call.
#![allow(unsafe_code)] // The program's callback and its C stream.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::abi::{Done, INVALID, exports};
use crate::status;

/// Levels by number, and their bits in the mask: Error, Trace, Hints, Info, API Trace.
const ERROR: u32 = 1;
const API: u32 = 5;

static MASK: AtomicU32 = AtomicU32::new(0);
static DISABLED: AtomicBool = AtomicBool::new(false);
static CALLBACK: AtomicUsize = AtomicUsize::new(0);

/// Where lines go, beside the callback.
enum Sink {
    /// Standard output, where nothing is set.
    Output,
    File(File),
    /// A `FILE *` of the program.
    Stream(usize),
}

static SINK: Mutex<Sink> = Mutex::new(Sink::Output);

fn set_sink(sink: Sink) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = sink;
}

/// A level and all before it.
fn up_to(level: u32) -> u32 {
    (1 << level) - 1
}

fn open(path: &str) -> Done<File> {
    File::create(path.replace("%i", &std::process::id().to_string())).map_err(|_| INVALID)
}

/// What the environment says, at the first call.
fn environment() {
    static READ: Once = Once::new();
    READ.call_once(|| {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        if let Some(level) = number("CUBLASLT_LOG_LEVEL").filter(|level| *level <= API) {
            MASK.store(up_to(level), Ordering::Relaxed);
        }
        if let Some(mask) = number("CUBLASLT_LOG_MASK") {
            MASK.store(mask, Ordering::Relaxed);
        }
        if let Ok(path) = std::env::var("CUBLASLT_LOG_FILE")
            && let Ok(file) = open(&path)
        {
            set_sink(Sink::File(file));
        }
    });
}

/// Logs what an export has returned.
pub fn returned(name: &str, result: u32) {
    environment();
    let mask = MASK.load(Ordering::Relaxed);
    if mask == 0 || DISABLED.load(Ordering::Relaxed) {
        return;
    }
    let status = status::name_of(result).to_string_lossy();
    if mask & 1 << (API - 1) != 0 {
        line(API, "Api", name, &status);
    }
    if result != 0 && mask & 1 << (ERROR - 1) != 0 {
        line(ERROR, "Error", name, &status);
    }
}

fn line(level: u32, word: &str, name: &str, message: &str) {
    let callback = CALLBACK.load(Ordering::Acquire);
    if callback != 0
        && let (Ok(name), Ok(message)) = (CString::new(name), CString::new(message))
    {
        type Callback = unsafe extern "C" fn(c_int, *const c_char, *const c_char);
        // SAFETY: a `cublasLtLoggerCallback_t` that the program has set, and two strings that live until
        // it returns.
        unsafe {
            let call = std::mem::transmute::<usize, Callback>(callback);
            call(level as c_int, name.as_ptr(), message.as_ptr());
        }
    }
    let text = format!(
        "[cublasLt][{}][{word}][{name}] {message}\n",
        std::process::id()
    );
    let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
    let written = match &mut *sink {
        // A callback takes the place of the standard output.
        Sink::Output if callback != 0 => Ok(()),
        Sink::Output => std::io::stdout().write_all(text.as_bytes()),
        Sink::File(file) => file.write_all(text.as_bytes()),
        Sink::Stream(stream) => {
            if let Ok(text) = CString::new(text) {
                // SAFETY: the program's `FILE *`, which it keeps open while it is set.
                unsafe {
                    libc::fputs(text.as_ptr(), *stream as *mut libc::FILE);
                    libc::fflush(*stream as *mut libc::FILE);
                }
            }
            Ok(())
        }
    };
    // A log that cannot be written must not fail the call.
    drop(written);
}

exports! {
    /// Sets the callback; null for none.
    fn cublasLtLoggerSetCallback(callback: usize) {
        CALLBACK.store(callback, Ordering::Release);
        Ok(())
    }

    /// Sets a stream that the program has opened; null for the standard output.
    fn cublasLtLoggerSetFile(stream: usize) {
        set_sink(match stream {
            0 => Sink::Output,
            stream => Sink::Stream(stream),
        });
        Ok(())
    }

    /// Opens a file.
    fn cublasLtLoggerOpenFile(path: Path) {
        set_sink(Sink::File(open(&path.text()?)?));
        Ok(())
    }

    /// Sets the level: 0 to 5.
    fn cublasLtLoggerSetLevel(level: u32) {
        if level > API {
            return Err(INVALID);
        }
        environment();
        MASK.store(up_to(level), Ordering::Relaxed);
        Ok(())
    }

    /// Sets which levels are logged, bit by bit.
    fn cublasLtLoggerSetMask(mask: u32) {
        if mask > up_to(API) {
            return Err(INVALID);
        }
        environment();
        MASK.store(mask, Ordering::Relaxed);
        Ok(())
    }

    /// Switches the log off for the rest of the process.
    fn cublasLtLoggerForceDisable() {
        DISABLED.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A path that the program gives.
#[repr(transparent)]
pub struct Path(*const c_char);

impl Path {
    fn text(&self) -> Done<String> {
        if self.0.is_null() {
            return Err(INVALID);
        }
        // SAFETY: not null, so by the ABI's contract a NUL-terminated string.
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}
