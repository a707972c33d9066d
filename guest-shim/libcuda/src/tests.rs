//! The library against the fake device. One process, one device: tests take turns.

mod contexts;
mod host;
mod kernels;
mod launches;
mod layout;
mod memory;
mod names;
mod objects;
mod pools;
mod surface;

use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use cudarc::driver::sys::{CUcontext, CUdeviceptr, CUfunction, CUmodule};
use vgpu_transport::fake::Device;
use vgpu_transport::process;

use crate::abi::{Host, Out, Text};
use crate::ctx::{cuCtxCreate_v2, cuCtxDestroy_v2};
use crate::init::cuInit;
use crate::mem::cuMemAlloc_v2;
use crate::module::{cuModuleGetFunction, cuModuleLoadData};

pub const SUCCESS: u32 = 0;
pub const INVALID_VALUE: u32 = 1;
pub const INVALID_CONTEXT: u32 = 201;
pub const INVALID_HANDLE: u32 = 400;

/// The device, with cuInit done, for one test at a time.
pub struct Turn {
    pub device: &'static Arc<Device>,
    _turn: MutexGuard<'static, ()>,
}

pub fn turn() -> Turn {
    static DEVICE: OnceLock<Arc<Device>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let device = DEVICE.get_or_init(|| {
        let device = Device::new(16 << 20, 4);
        process::install(device.client()).expect("a free channel");
        device
    });
    assert_eq!(cuInit(0), SUCCESS);
    Turn {
        device,
        _turn: turn,
    }
}

impl Turn {
    /// How often a call has reached the host. What was posted before is waited for.
    pub fn count(&self, name: &str) -> usize {
        let channel = process::current().expect("connected");
        vgpu_protocol::calls::stubs::counters(channel, vgpu_protocol::calls::CtxId(0))
            .expect("answers");
        self.device.host().count(name)
    }
}

/// A context that is current until it is dropped.
pub struct Current(pub CUcontext);

pub fn context() -> Current {
    let mut ctx = null_mut();
    assert_eq!(cuCtxCreate_v2(Out::to(&mut ctx), 0, 0), SUCCESS);
    Current(ctx)
}

impl Drop for Current {
    fn drop(&mut self) {
        // A test may have destroyed it.
        cuCtxDestroy_v2(self.0);
    }
}

pub fn alloc(bytes: usize) -> CUdeviceptr {
    let mut at = 0;
    assert_eq!(cuMemAlloc_v2(Out::to(&mut at), bytes), SUCCESS);
    at
}

pub fn module() -> CUmodule {
    let mut module = null_mut();
    let mut image = *b".version 8.0\n\0";
    assert_eq!(
        cuModuleLoadData(Out::to(&mut module), Host::to(&mut image)),
        SUCCESS
    );
    module
}

pub fn function(module: CUmodule) -> CUfunction {
    let mut function = null_mut();
    let name = Text::to(c"vector_add");
    assert_eq!(
        cuModuleGetFunction(Out::to(&mut function), module, name),
        SUCCESS
    );
    function
}
