//! The floor of every waiting call: a word that goes to another process and comes back, over memory
//! that both have mapped, with nothing around it.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use vgpu_transport::spin;

use crate::clock::{Clock, ticks};

/// Length of the memory, in bytes.
pub const BYTES: usize = 1 << 20;

/// Offsets of the words, each with lines of its own: what the side that asks writes, what the other
/// one answers, and whether there is somebody who asks.
const PING: usize = 0;
const PONG: usize = 256;
const ACTIVE: usize = 512;

/// Values of the word at [`ACTIVE`].
const ASKING: u64 = 1;
const OVER: u64 = 2;

/// How long a side waits for the other one.
const PATIENCE: Duration = Duration::from_secs(120);

/// A shared mapping of a file's start.
pub struct Shared(*mut u8);

impl Shared {
    /// Maps it.
    pub fn new(path: &Path) -> Result<Shared> {
        let file: File = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("open {}", path.display()))?;
        // SAFETY: a new mapping at an address that the kernel picks.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        ensure!(
            base != libc::MAP_FAILED,
            "map {}: {}",
            path.display(),
            std::io::Error::last_os_error()
        );
        Ok(Shared(base.cast()))
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        // SAFETY: inside the mapping, aligned, and used as an atomic by both sides alone.
        unsafe { AtomicU64::from_ptr(self.0.add(at).cast()) }
    }

    /// Asks so many times, as soon as the other side is there; gives the time of each, in
    /// nanoseconds.
    pub fn ask(&self, clock: &Clock, count: usize) -> Result<Vec<f64>> {
        let mut number = self.word(PONG).load(Ordering::Acquire);
        self.word(ACTIVE).store(ASKING, Ordering::Release);
        let mut times = Vec::with_capacity(count);
        // The first answers come when the other side has woken up.
        for round in 0..count + 100 {
            number += 1;
            let from = ticks();
            self.word(PING).store(number, Ordering::Release);
            let mut looks = 0u64;
            while self.word(PONG).load(Ordering::Acquire) != number {
                spin::pause();
                looks += 1;
                if looks.is_multiple_of(1 << 16) {
                    // The other side may need this core.
                    std::thread::yield_now();
                    ensure!(
                        clock.ns(ticks() - from) < PATIENCE.as_nanos() as f64,
                        "nobody answers over the shared memory"
                    );
                }
            }
            if round >= 100 {
                times.push(clock.ns(ticks() - from));
            }
        }
        self.word(ACTIVE).store(0, Ordering::Release);
        Ok(times)
    }

    /// Says that nobody will ask any more.
    pub fn end(&self) {
        self.word(ACTIVE).store(OVER, Ordering::Release);
    }

    /// Answers until it is over; uses no core while nobody asks.
    pub fn answer(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.word(ACTIVE).load(Ordering::Acquire) {
                OVER => return Ok(()),
                ASKING => self.answer_while_asked(),
                _ if began.elapsed() > Duration::from_secs(3600) => bail!("nobody ended it"),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn answer_while_asked(&self) {
        let mut idle = 0u64;
        let mut last = self.word(PONG).load(Ordering::Acquire);
        loop {
            let asked = self.word(PING).load(Ordering::Acquire);
            if asked != last {
                self.word(PONG).store(asked, Ordering::Release);
                (last, idle) = (asked, 0);
                continue;
            }
            spin::pause();
            idle += 1;
            if idle.is_multiple_of(1 << 12) {
                std::thread::yield_now();
                if self.word(ACTIVE).load(Ordering::Acquire) != ASKING {
                    return;
                }
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `new` made.
        unsafe { libc::munmap(self.0.cast(), BYTES) };
    }
}

/// The memory of QEMU's ivshmem device (vendor 1af4, device 1110: BAR 2), where the guest has one.
pub fn ivshmem() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/sys/bus/pci/devices").ok()?;
    let is = |folder: &Path, name: &str, id: &str| {
        std::fs::read_to_string(folder.join(name)).is_ok_and(|text| text.trim() == id)
    };
    folders
        .flatten()
        .map(|entry| entry.path())
        .find(|folder| is(folder, "vendor", "0x1af4") && is(folder, "device", "0x1110"))
        .map(|folder| {
            // Memory decoding is off where no driver has the device.
            let _ = std::fs::write(folder.join("enable"), "1");
            folder.join("resource2")
        })
}

/// Processor time that this thread has used, in nanoseconds.
pub fn thread_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}
