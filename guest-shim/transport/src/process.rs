//! The one channel of this process.
//!
//! fork: the child has the parent's memory but not its channel. A handler that runs in the child
//! forgets the channel (it must not be dropped: threads of the parent may hold its locks) and
//! closes its descriptors; the next `cuInit` opens a new one. exec: all descriptors are closed.
//! Exit: the channel is given back after the program's own destructors have run.
#![allow(
    unsafe_code,
    reason = "the section of functions that run at exit, and leaked pointers"
)]

use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::thread;

use crate::bars::Bars;
use crate::channel::Channel;
use crate::error::ConnectError;
use crate::local::LocalBars;
use crate::log_debug;
use crate::pci::{PciBars, SYSFS};
use crate::sys;

static CURRENT: AtomicPtr<Channel> = AtomicPtr::new(std::ptr::null_mut());
/// Counts forks on the way from the first process to this one.
static EPOCH: AtomicU64 = AtomicU64::new(0);
/// Held while a channel is being opened. No mutex: a child of fork must be able to break it.
static OPENING: AtomicBool = AtomicBool::new(false);

/// Descriptors that a child of fork closes: `vgpu-local` frees a channel when the last copy of
/// its socket is closed, so a child must not keep the parent's.
static INHERITED: [AtomicI32; 80] = [const { AtomicI32::new(-1) }; 80];

extern "C" fn in_child() {
    // Only what is safe after fork in a process with threads: atomics and close(2).
    EPOCH.fetch_add(1, Ordering::Relaxed);
    CURRENT.store(std::ptr::null_mut(), Ordering::Relaxed);
    OPENING.store(false, Ordering::Relaxed);
    for slot in &INHERITED {
        let fd = slot.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            sys::close_inherited(fd);
        }
    }
}

extern "C" fn at_exit() {
    if let Some(channel) = current() {
        channel.close();
    }
}

/// Runs when the program ends or the library is unloaded, after the destructors of what depends
/// on it.
#[used]
#[unsafe(link_section = ".fini_array")]
static AT_EXIT: extern "C" fn() = at_exit;

/// Changes in a child of fork: what was known of the device before belongs to the parent.
pub fn epoch() -> u64 {
    EPOCH.load(Ordering::Relaxed)
}

/// The process's channel, where one is open.
pub fn current() -> Option<&'static Channel> {
    // SAFETY: the pointer is null or one that `open` leaked: valid for ever, shared only.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// Finds the device as `VGPU_LOCAL` and `VGPU_DEVICE` say.
pub fn find() -> Result<Box<dyn Bars>, ConnectError> {
    if let Some(path) = std::env::var_os("VGPU_LOCAL").filter(|p| !p.is_empty()) {
        return Ok(Box::new(LocalBars::connect(Path::new(&path))?));
    }
    let wanted = std::env::var("VGPU_DEVICE").ok().filter(|d| !d.is_empty());
    Ok(Box::new(PciBars::find(
        Path::new(SYSFS),
        wanted.as_deref(),
    )?))
}

/// The process's channel; opens it where there is none.
pub fn connect() -> Result<&'static Channel, ConnectError> {
    loop {
        if let Some(channel) = current() {
            return Ok(channel);
        }
        if OPENING
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            let opened = match current() {
                Some(channel) => Ok(channel),
                None => open(),
            };
            OPENING.store(false, Ordering::Release);
            return opened;
        }
        thread::yield_now();
    }
}

/// Makes a channel over other BARs the process's: for tests against the fake device.
#[cfg(feature = "fake")]
pub fn install(bars: Box<dyn Bars>) -> Result<&'static Channel, ConnectError> {
    watch_forks();
    Channel::open(bars).map(publish)
}

fn publish(channel: Channel) -> &'static Channel {
    let channel: &'static Channel = Box::leak(Box::new(channel));
    CURRENT.store(std::ptr::from_ref(channel).cast_mut(), Ordering::Release);
    channel
}

fn watch_forks() {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        if let Err(error) = sys::at_fork_in_child(in_child) {
            log_debug!("pthread_atfork: {error}; children of fork must not use CUDA");
        }
    });
}

fn open() -> Result<&'static Channel, ConnectError> {
    watch_forks();
    let bars = find()?;
    for (slot, fd) in INHERITED.iter().zip(bars.descriptors()) {
        slot.store(fd, Ordering::Relaxed);
    }
    match Channel::open(bars) {
        Ok(channel) => Ok(publish(channel)),
        Err(error) => {
            INHERITED
                .iter()
                .for_each(|slot| slot.store(-1, Ordering::Relaxed));
            Err(error)
        }
    }
}
