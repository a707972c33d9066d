//! Ctrl-C and termination: noticed once, so that what runs is ended and its files are removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// From now on the first such signal sets a flag, and the second ends us at once.
pub fn watch() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM])
        .context("watch for signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if HAPPENED.swap(true, Ordering::AcqRel) {
                std::process::exit(130);
            }
        }
    });
    Ok(())
}

/// Whether such a signal came.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::Acquire)
}

/// A directory of ours for one run, removed with all in it.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes one. Its path is short: a socket's may have 107 bytes.
    pub fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{name}-{}-{count}", std::process::id()));
        // Not create_dir_all: another user's directory of that name is refused.
        fs::create_dir(&path).with_context(|| format!("make the directory {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Left behind when that fails; nothing depends on it.
        let _ = fs::remove_dir_all(&self.path);
    }
}
