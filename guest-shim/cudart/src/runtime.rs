//! The runtime's state: the driver, the devices and their primary contexts, and which of them each
//! thread uses.
//!
//! CUDA Runtime API, "Initialization and Version Management" and "Interactions with the CUDA Driver
//! API": the first call that needs it initialises the driver and makes the primary context of the
//! thread's device current, unless the program made another context current through the driver API.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use cudarc::driver::sys::{CUcontext, CUdevice};
use vgpu_protocol::Status;

use crate::abi::{Done, Global, at_exit_and_fork, handle, local, major};
use crate::driver::Driver;

/// `cudaErrorInsufficientDriver`.
const INSUFFICIENT_DRIVER: Status = Status(35);
/// `cudaErrorInvalidDevice`.
pub const INVALID_DEVICE: Status = Status::ERROR_INVALID_DEVICE;
/// `cudaErrorCudartUnloading`.
const UNLOADING: Status = Status(4);

/// What the runtime knows of a device.
#[derive(Debug)]
pub struct Device {
    /// The driver's name of it.
    pub handle: CUdevice,
    /// Its primary context (an address), once it was retained.
    primary: Mutex<Option<usize>>,
    /// Counts resets, which end the contexts that threads have bound.
    resets: AtomicU64,
    /// After how many resets, plus one, managed variables were placed in its context.
    placed: AtomicU64,
}

/// The runtime after its initialisation.
pub struct Runtime {
    /// The driver.
    pub driver: Driver,
    /// The devices, by ordinal.
    pub devices: Vec<Device>,
    epoch: u64,
}

static RUNTIME: Global<Runtime> = Global::new();
/// Counts forks: the state of a parent is not its child's.
static EPOCH: AtomicU64 = AtomicU64::new(0);
static ENDING: AtomicBool = AtomicBool::new(false);
/// Held while the runtime is being initialised. A child of fork whose parent was in the middle of
/// it finds another epoch, and does not wait for a thread that it does not have.
static INITIALISING: AtomicU64 = AtomicU64::new(0);

extern "C" fn at_exit() {
    ENDING.store(true, Ordering::Release);
}

extern "C" fn in_child() {
    EPOCH.fetch_add(1, Ordering::Relaxed);
}

thread_local! {
    static SELECTED: Cell<Selected> = const { Cell::new(Selected {
        device: 0, context: 0, resets: 0, epoch: 0,
    }) };
}

/// What a thread has chosen.
#[derive(Clone, Copy, Default)]
struct Selected {
    /// The device's ordinal.
    device: i32,
    /// The primary context that was made current for it, and after how many resets; 0: none.
    context: usize,
    resets: u64,
    epoch: u64,
}

/// Forks on the way from the first process to this one.
pub fn epoch() -> u64 {
    EPOCH.load(Ordering::Relaxed)
}

/// True once the process is ending.
pub fn is_ending() -> bool {
    ENDING.load(Ordering::Acquire)
}

/// The initialised runtime; initialises it if it is not.
pub fn runtime() -> Done<&'static Runtime> {
    if is_ending() {
        return Err(UNLOADING);
    }
    let epoch = epoch();
    if let Some(runtime) = RUNTIME.get().filter(|r| r.epoch == epoch) {
        return Ok(runtime);
    }
    // One thread at a time; what a parent's thread was doing at fork holds nobody up.
    loop {
        let held = INITIALISING.load(Ordering::Acquire);
        if held != epoch + 1
            && INITIALISING
                .compare_exchange(held, epoch + 1, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            break;
        }
        std::thread::yield_now();
    }
    let result = match RUNTIME.get().filter(|r| r.epoch == epoch) {
        Some(runtime) => Ok(runtime),
        None => initialise(epoch),
    };
    INITIALISING.store(0, Ordering::Release);
    result
}

fn initialise(epoch: u64) -> Done<&'static Runtime> {
    let driver = Driver::open().ok_or(INSUFFICIENT_DRIVER)?;
    let version = local(|v| driver.cuDriverGetVersion(v))?;
    // "the installed NVIDIA CUDA driver is older than the CUDA runtime library": minor versions
    // of the same major version are compatible.
    if version < major() as i32 * 1000 {
        vgpu_transport::log::line(format_args!(
            "libcudart of CUDA {} needs a driver for CUDA {}.0 or newer; this one is for CUDA {}.{}",
            major(),
            major(),
            version / 1000,
            version % 1000 / 10
        ));
        return Err(INSUFFICIENT_DRIVER);
    }
    driver.cuInit(0)?;
    let count = local(|c| driver.cuDeviceGetCount(c))?;
    let devices = (0..count)
        .map(|ordinal| {
            Ok(Device {
                handle: local(|d| driver.cuDeviceGet(d, ordinal))?,
                primary: Mutex::new(None),
                resets: AtomicU64::new(0),
                placed: AtomicU64::new(0),
            })
        })
        .collect::<Done<Vec<_>>>()?;
    if devices.is_empty() {
        return Err(Status::ERROR_NO_DEVICE);
    }
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| at_exit_and_fork(at_exit, in_child));
    RUNTIME.set(Box::leak(Box::new(Runtime {
        driver,
        devices,
        epoch,
    })));
    RUNTIME.get().ok_or(Status::ERROR_UNKNOWN)
}

fn selected() -> Selected {
    let selected = SELECTED.get();
    if selected.epoch == epoch() {
        selected
    } else {
        Selected {
            device: selected.device,
            epoch: epoch(),
            ..Selected::default()
        }
    }
}

impl Runtime {
    /// The device of an ordinal.
    pub fn device(&self, ordinal: i32) -> Done<&Device> {
        usize::try_from(ordinal)
            .ok()
            .and_then(|i| self.devices.get(i))
            .ok_or(INVALID_DEVICE)
    }

    /// The context that is current in this thread; null if there is none.
    pub fn context(&self) -> Done<CUcontext> {
        handle(|c| self.driver.cuCtxGetCurrent(c))
    }

    /// The primary context of a device, which is retained at first.
    pub fn primary(&self, device: &Device) -> Done<CUcontext> {
        let mut primary = device
            .primary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(context) = *primary {
            return Ok(context as CUcontext);
        }
        let context = handle(|c| self.driver.cuDevicePrimaryCtxRetain(c, device.handle))?;
        *primary = Some(context as usize);
        Ok(context)
    }

    /// Makes a device's primary context current in this thread.
    pub fn select(&self, ordinal: i32) -> Done {
        let device = self.device(ordinal)?;
        let resets = device.resets.load(Ordering::Acquire);
        let context = self.primary(device)?;
        self.driver.cuCtxSetCurrent(context)?;
        SELECTED.set(Selected {
            device: ordinal,
            context: context as usize,
            resets,
            epoch: epoch(),
        });
        if device.placed.swap(resets + 1, Ordering::AcqRel) != resets + 1 {
            crate::module::place_all_managed(self);
        }
        Ok(())
    }

    /// Remembers a device for this thread without touching it.
    pub fn select_later(&self, ordinal: i32) -> Done {
        self.device(ordinal)?;
        SELECTED.set(Selected {
            device: ordinal,
            epoch: epoch(),
            ..Selected::default()
        });
        Ok(())
    }

    /// The ordinal of the thread's device: of the current context's where there is one.
    pub fn current_ordinal(&self) -> Done<i32> {
        if self.context()?.is_null() {
            return Ok(selected().device);
        }
        let handle = local(|d| self.driver.cuCtxGetDevice(d))?;
        self.ordinal(handle)
    }

    /// The ordinal of a driver's device.
    pub fn ordinal(&self, handle: CUdevice) -> Done<i32> {
        let found = self.devices.iter().position(|d| d.handle == handle);
        found
            .and_then(|i| i32::try_from(i).ok())
            .ok_or(INVALID_DEVICE)
    }

    /// Ends a device's primary context, for all threads.
    pub fn reset(&self, ordinal: i32) -> Done {
        let device = self.device(ordinal)?;
        let mut primary = device
            .primary
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.driver.cuDevicePrimaryCtxReset_v2(device.handle)?;
        device.resets.fetch_add(1, Ordering::AcqRel);
        if primary.take() == Some(self.context()? as usize) {
            self.driver.cuCtxSetCurrent(std::ptr::null_mut())?;
        }
        Ok(())
    }
}

/// The initialised runtime with a context that is current in this thread: what most calls begin
/// with.
pub fn enter() -> Done<&'static Runtime> {
    let runtime = runtime()?;
    let context = runtime.context()?;
    let selected = selected();
    // A primary context keeps its handle when it is reset and made again.
    let ended = || {
        selected.context == context as usize
            && runtime
                .device(selected.device)
                .is_ok_and(|d| d.resets.load(Ordering::Acquire) != selected.resets)
    };
    if context.is_null() || ended() {
        runtime.select(selected.device)?;
    }
    Ok(runtime)
}
