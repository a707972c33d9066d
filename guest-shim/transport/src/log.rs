//! What `VGPU_LOG` prints: `1` one line per hop of a call to standard error, `debug` more of them,
//! any other value names a file that the lines are appended to. Unset, empty or `0`: nothing.

use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing.
    Off = 1,
    /// The hops of each call.
    Calls = 2,
    /// Waiting, copying and parking, too.
    Debug = 3,
}

const UNREAD: u8 = 0;
static LEVEL: AtomicU8 = AtomicU8::new(UNREAD);
static TARGET: OnceLock<Option<File>> = OnceLock::new();

fn read_environment() -> u8 {
    let value = std::env::var("VGPU_LOG").unwrap_or_default();
    let (level, file) = match value.as_str() {
        "" | "0" => (Level::Off, None),
        "1" => (Level::Calls, None),
        "debug" => (Level::Debug, None),
        path => match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => (Level::Calls, Some(file)),
            Err(error) => {
                eprintln!("[cuda-transport] VGPU_LOG={path}: {error}; logging to standard error");
                (Level::Calls, None)
            }
        },
    };
    TARGET.get_or_init(|| file);
    LEVEL.store(level as u8, Ordering::Relaxed);
    level as u8
}

/// True where lines of this level are printed.
pub fn enabled(level: Level) -> bool {
    let mut now = LEVEL.load(Ordering::Relaxed);
    if now == UNREAD {
        now = read_environment();
    }
    now >= level as u8
}

/// Prints one line. Callers ask [`enabled`] first, or mean it for everybody.
pub fn line(text: Arguments<'_>) {
    // One write per line, so that lines of several threads and processes do not mix. Where it
    // cannot be written there is nobody to tell.
    let text = format!("[cuda-transport] {text}\n");
    let _ = match TARGET.get() {
        Some(Some(file)) => (&*file).write_all(text.as_bytes()),
        _ => std::io::stderr().write_all(text.as_bytes()),
    };
}

/// Prints a line for each call (`VGPU_LOG=1`).
#[macro_export]
macro_rules! log_calls {
    ($($text:tt)*) => {
        if $crate::log::enabled($crate::log::Level::Calls) {
            $crate::log::line(format_args!($($text)*));
        }
    };
}

/// Prints a line of detail (`VGPU_LOG=debug`).
#[macro_export]
macro_rules! log_debug {
    ($($text:tt)*) => {
        if $crate::log::enabled($crate::log::Level::Debug) {
            $crate::log::line(format_args!($($text)*));
        }
    };
}
