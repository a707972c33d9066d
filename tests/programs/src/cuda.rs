//! The driver API with Rust's types. Every call is counted by name.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail, ensure};
pub use cudarc::driver::sys;
use sys::{CUdeviceptr, CUresult};

/// Calls so far, by the name in the CUDA documentation (without `_v2`).
static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Counts a call.
pub fn count(symbol: &'static str) {
    let name = match symbol.rsplit_once("_v") {
        Some((name, version)) if version.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => symbol,
    };
    *COUNTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(name)
        .or_default() += 1;
}

/// What was called how often.
pub fn counts() -> BTreeMap<&'static str, u64> {
    COUNTS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// A failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// The function.
    pub call: &'static str,
    /// What it returned.
    pub result: CUresult,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} returned {} ({:?})",
            self.call, self.result as u32, self.result
        )
    }
}

impl std::error::Error for Failed {}

/// Turns a result into an error that names the call.
pub fn check(call: &'static str, result: CUresult) -> Result<(), Failed> {
    if result == CUresult::CUDA_SUCCESS {
        Ok(())
    } else {
        Err(Failed { call, result })
    }
}

/// Counts and makes a call of `cudarc::driver::sys`; its result is a `Result`.
#[macro_export]
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        $crate::cuda::count(stringify!($name));
        $crate::cuda::check(stringify!($name), $crate::cuda::sys::$name($($argument),*))
    }};
}

/// Types whose every bit pattern is a value, so that the device may fill them.
pub trait Plain: Copy + Default + 'static {}
impl Plain for u8 {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for i64 {}
impl Plain for u64 {}
impl Plain for f32 {}
impl Plain for f64 {}

/// Loads the driver and initialises it.
pub fn init() -> Result<()> {
    // SAFETY: loads the system's CUDA driver, whose constructors are trusted as any program trusts them.
    let present = unsafe { sys::is_culib_present() };
    ensure!(present, "there is no libcuda.so.1 on the library path");
    // SAFETY: no preconditions.
    unsafe { call!(cuInit(0)) }.map_err(Into::into)
}

/// `cuDriverGetVersion`.
pub fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: a place for the number.
    unsafe { call!(cuDriverGetVersion(&mut version))? };
    Ok(version)
}

/// The name of the first device.
pub fn device_name() -> Result<String> {
    let mut name = [0u8; 256];
    // SAFETY: `name` is writable for the length that is given.
    unsafe { call!(cuDeviceGetName(name.as_mut_ptr().cast(), 256, 0)) }?;
    Ok(CStr::from_bytes_until_nul(&name)?
        .to_string_lossy()
        .into_owned())
}

/// The compute capability of the first device, 90 for 9.0.
pub fn compute_capability() -> Result<u32> {
    use sys::CUdevice_attribute as Attribute;
    let mut parts = [0; 2];
    let attributes = [
        Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
        Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    ];
    for (part, attribute) in parts.iter_mut().zip(attributes) {
        // SAFETY: a place for the number.
        unsafe { call!(cuDeviceGetAttribute(part, attribute, 0)) }?;
    }
    Ok((parts[0] * 10 + parts[1]).unsigned_abs())
}

/// A context that is current in this thread for as long as this lives.
pub struct Context {
    own: Option<sys::CUcontext>,
    /// Current in one thread only.
    _thread: PhantomData<*mut ()>,
}

impl Context {
    /// The device's primary context.
    pub fn primary() -> Result<Self> {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is writable; the context that is made current was just given to us.
        unsafe {
            call!(cuDevicePrimaryCtxRetain(&mut context, 0))?;
            call!(cuCtxSetCurrent(context))?;
        }
        Ok(Self {
            own: None,
            _thread: PhantomData,
        })
    }

    /// A context of its own.
    pub fn create() -> Result<Self> {
        let mut context = ptr::null_mut();
        // SAFETY: `context` is writable; a null list of parameters means none.
        unsafe { call!(cuCtxCreate_v4(&mut context, ptr::null_mut(), 0, 0)) }?;
        Ok(Self {
            own: Some(context),
            _thread: PhantomData,
        })
    }

    /// Waits for all work.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: no preconditions.
        unsafe { call!(cuCtxSynchronize()) }.map_err(Into::into)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and destroyed once; a failure has no one to go to.
        let _ = unsafe {
            match self.own {
                Some(context) => call!(cuCtxDestroy_v2(context)),
                None => call!(cuDevicePrimaryCtxRelease_v2(0)),
            }
        };
    }
}

/// A loaded module.
pub struct Module(sys::CUmodule);

impl Module {
    /// Loads PTX text. An error carries the JIT's log.
    pub fn load(ptx: &str) -> Result<Self> {
        let image = CString::new(ptx).context("PTX text with a NUL in it")?;
        let mut log = vec![0u8; 8192];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let mut module = ptr::null_mut();
        // SAFETY: the image ends with a NUL; both lists have two entries; the buffer is as long as the second says.
        let result = unsafe {
            let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
            call!(cuModuleLoadDataEx(
                &mut module,
                image.as_ptr().cast(),
                2,
                options,
                values
            ))
        };
        match result {
            Ok(()) => Ok(Self(module)),
            Err(error) => {
                let log = CStr::from_bytes_until_nul(&log)
                    .map(CStr::to_string_lossy)
                    .unwrap_or_default();
                bail!("{error}: {}", log.trim())
            }
        }
    }

    /// A kernel.
    pub fn function(&self, name: &str) -> Result<Function> {
        let text = CString::new(name)?;
        let mut function = ptr::null_mut();
        // SAFETY: the module is loaded; the name ends with a NUL.
        unsafe { call!(cuModuleGetFunction(&mut function, self.0, text.as_ptr())) }
            .with_context(|| name.to_owned())?;
        Ok(Function(function))
    }

    /// The address and the size in bytes of a variable.
    pub fn global(&self, name: &str) -> Result<(CUdeviceptr, usize)> {
        let text = CString::new(name)?;
        let (mut address, mut bytes) = (0, 0);
        // SAFETY: the module is loaded; the name ends with a NUL.
        unsafe {
            call!(cuModuleGetGlobal_v2(
                &mut address,
                &mut bytes,
                self.0,
                text.as_ptr()
            ))
        }
        .with_context(|| name.to_owned())?;
        Ok((address, bytes))
    }

    /// Reads a variable of `length` elements.
    pub fn read_global<T: Plain>(&self, name: &str, length: usize) -> Result<Vec<T>> {
        let (address, bytes) = self.global(name)?;
        let mut data = vec![T::default(); length];
        ensure!(bytes == size_of_val(&data[..]), "{name} has {bytes} bytes");
        // SAFETY: `data` is writable for that many bytes, and every bit pattern is a T.
        unsafe { call!(cuMemcpyDtoH_v2(data.as_mut_ptr().cast(), address, bytes)) }?;
        Ok(data)
    }

    /// Sets a variable.
    pub fn write_global<T: Plain>(&self, name: &str, data: &[T]) -> Result<()> {
        let (address, bytes) = self.global(name)?;
        ensure!(bytes == size_of_val(data), "{name} has {bytes} bytes");
        // SAFETY: `data` is readable for that many bytes.
        unsafe { call!(cuMemcpyHtoD_v2(address, data.as_ptr().cast(), bytes)) }.map_err(Into::into)
    }

    /// The handle.
    pub fn raw(&self) -> sys::CUmodule {
        self.0
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: the module is ours, and unloaded once.
        let _ = unsafe { call!(cuModuleUnload(self.0)) };
    }
}

/// A kernel of a module.
#[derive(Clone, Copy)]
pub struct Function(sys::CUfunction);

/// The values for a kernel's parameters, in order.
#[derive(Clone, Default)]
pub struct Arguments(Vec<[u64; Arguments::WORDS]>);

impl Arguments {
    /// Size of the greatest parameter of a kernel of ours, in words of 8 bytes.
    const WORDS: usize = 8;
    /// Parameters of the kernel with most.
    const MOST: usize = 32;

    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// One value more.
    pub fn with<T: Copy>(mut self, value: T) -> Self {
        const { assert!(size_of::<T>() <= 8 * Self::WORDS && align_of::<T>() <= 8) };
        let mut slot = [0; Self::WORDS];
        // SAFETY: the slot is at least as large and as aligned as a T, which the assertion above states.
        unsafe { slot.as_mut_ptr().cast::<T>().write(value) };
        self.0.push(slot);
        self
    }
}

/// Grid and block of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory, in bytes.
    pub shared: u32,
}

impl Shape {
    /// Blocks of `block` threads that cover `n` threads.
    pub fn cover(n: usize, block: u32) -> Self {
        let blocks = n.div_ceil(block as usize).max(1);
        Self::grid(u32::try_from(blocks).unwrap_or(u32::MAX), block)
    }

    /// A grid in one dimension.
    pub fn grid(blocks: u32, block: u32) -> Self {
        Self {
            grid: [blocks, 1, 1],
            block: [block, 1, 1],
            shared: 0,
        }
    }
}

impl Function {
    /// Launches in a stream. The kernel can only reach device memory, so that no harm comes to this process.
    pub fn launch(
        &self,
        shape: Shape,
        stream: Option<&Stream>,
        arguments: &Arguments,
    ) -> Result<(), Failed> {
        let mut slots = arguments.0.clone();
        // A kernel with more parameters than were given reads zeros, not what lies behind the list.
        slots.resize(Arguments::MOST, [0; Arguments::WORDS]);
        let mut pointers: Vec<*mut c_void> = slots
            .iter_mut()
            .map(|slot| slot.as_mut_ptr().cast())
            .collect();
        let [gx, gy, gz] = shape.grid;
        let [bx, by, bz] = shape.block;
        let stream = stream.map_or(ptr::null_mut(), |stream| stream.0);
        // SAFETY: every entry points to 64 readable bytes, and there are more than any kernel of ours has parameters.
        unsafe {
            let parameters = pointers.as_mut_ptr();
            call!(cuLaunchKernel(
                self.0,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shape.shared,
                stream,
                parameters,
                ptr::null_mut()
            ))
        }
    }

    /// The handle.
    pub fn raw(&self) -> sys::CUfunction {
        self.0
    }
}

/// Elements in device memory.
pub struct Buffer<T: Plain> {
    address: CUdeviceptr,
    length: usize,
    _elements: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// Memory with whatever is in it.
    pub fn new(length: usize) -> Result<Self> {
        let mut address = 0;
        // SAFETY: `address` is writable.
        unsafe {
            call!(cuMemAlloc_v2(
                &mut address,
                (length * size_of::<T>()).max(1)
            ))
        }?;
        Ok(Self {
            address,
            length,
            _elements: PhantomData,
        })
    }

    /// Memory with a copy of `data`.
    pub fn from(data: &[T]) -> Result<Self> {
        let buffer = Self::new(data.len())?;
        buffer.write(data)?;
        Ok(buffer)
    }

    /// Memory with every byte 0.
    pub fn zeros(length: usize) -> Result<Self> {
        let buffer = Self::new(length)?;
        // SAFETY: the allocation has that many bytes.
        unsafe { call!(cuMemsetD8_v2(buffer.address, 0, length * size_of::<T>())) }?;
        Ok(buffer)
    }

    /// Copies `data` to the start.
    pub fn write(&self, data: &[T]) -> Result<()> {
        ensure!(
            data.len() <= self.length,
            "{} elements into a buffer of {}",
            data.len(),
            self.length
        );
        // SAFETY: `data` is readable for that many bytes.
        unsafe {
            call!(cuMemcpyHtoD_v2(
                self.address,
                data.as_ptr().cast(),
                size_of_val(data)
            ))
        }
        .map_err(Into::into)
    }

    /// Copies all to the host.
    pub fn read(&self) -> Result<Vec<T>> {
        let mut data = vec![T::default(); self.length];
        self.read_into(&mut data)?;
        Ok(data)
    }

    /// Copies as many elements to the host as `data` takes.
    pub fn read_into(&self, data: &mut [T]) -> Result<()> {
        ensure!(
            data.len() <= self.length,
            "{} elements from a buffer of {}",
            data.len(),
            self.length
        );
        // SAFETY: `data` is writable for that many bytes, and every bit pattern is a T.
        unsafe {
            call!(cuMemcpyDtoH_v2(
                data.as_mut_ptr().cast(),
                self.address,
                size_of_val(data)
            ))
        }
        .map_err(Into::into)
    }

    /// Copies `data` in a stream; it must stay untouched until the stream is through.
    pub fn write_async<'a>(&self, data: &'a [T], stream: &'a Stream) -> Result<Pending<'a>> {
        ensure!(
            data.len() <= self.length,
            "{} elements into a buffer of {}",
            data.len(),
            self.length
        );
        // SAFETY: `data` is borrowed until the stream is through, see `Pending`.
        unsafe {
            call!(cuMemcpyHtoDAsync_v2(
                self.address,
                data.as_ptr().cast(),
                size_of_val(data),
                stream.0
            ))?;
        }
        Ok(Pending(stream))
    }

    /// Copies all to `data` in a stream.
    pub fn read_async<'a>(&self, data: &'a mut [T], stream: &'a Stream) -> Result<Pending<'a>> {
        ensure!(
            data.len() == self.length,
            "{} elements out of a buffer of {}",
            data.len(),
            self.length
        );
        // SAFETY: `data` is borrowed until the stream is through, see `Pending`.
        unsafe {
            call!(cuMemcpyDtoHAsync_v2(
                data.as_mut_ptr().cast(),
                self.address,
                size_of_val(data),
                stream.0
            ))?;
        }
        Ok(Pending(stream))
    }

    /// Copies all of `from` within the device.
    pub fn copy_from(&self, from: &Self) -> Result<()> {
        ensure!(
            from.length == self.length,
            "{} elements into a buffer of {}",
            from.length,
            self.length
        );
        // SAFETY: both allocations have that many bytes.
        unsafe {
            call!(cuMemcpyDtoD_v2(
                self.address,
                from.address,
                self.length * size_of::<T>()
            ))
        }
        .map_err(Into::into)
    }

    /// The device address, as a kernel's parameter.
    pub fn address(&self) -> CUdeviceptr {
        self.address
    }
}

impl Buffer<u8> {
    /// Sets `count` elements of 1, 2 or 4 bytes from byte `at` on.
    pub fn set(&self, at: usize, width: usize, value: u32, count: usize) -> Result<()> {
        ensure!(
            at + width * count <= self.length && at.is_multiple_of(width),
            "{width} x {count} bytes at {at}"
        );
        let address = self.address + at as CUdeviceptr;
        // SAFETY: the range lies inside the allocation, and the address is a multiple of the width.
        unsafe {
            match width {
                1 => call!(cuMemsetD8_v2(address, value as u8, count)),
                2 => call!(cuMemsetD16_v2(address, value as u16, count)),
                4 => call!(cuMemsetD32_v2(address, value, count)),
                _ => bail!("no memset has {width} bytes"),
            }
        }
        .map_err(Into::into)
    }

    /// Sets `columns` bytes of each of `rows` rows that lie `pitch` bytes apart, from byte `at` on.
    pub fn set_rows(
        &self,
        at: usize,
        pitch: usize,
        value: u8,
        columns: usize,
        rows: usize,
    ) -> Result<()> {
        ensure!(
            columns <= pitch && at + pitch * rows <= self.length,
            "{rows} rows of {pitch} bytes at {at}"
        );
        // SAFETY: the rows lie inside the allocation.
        unsafe {
            call!(cuMemsetD2D8_v2(
                self.address + at as CUdeviceptr,
                pitch,
                value,
                columns,
                rows
            ))
        }
        .map_err(Into::into)
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: the allocation is ours, and freed once.
        let _ = unsafe { call!(cuMemFree_v2(self.address)) };
    }
}

/// A copy that runs in a stream. Its borrow of the host's memory lasts until it is waited for; dropping waits too.
#[must_use]
pub struct Pending<'a>(&'a Stream);

impl Pending<'_> {
    /// Waits until the stream is through.
    pub fn wait(self) -> Result<()> {
        let stream = self.0;
        std::mem::forget(self);
        stream.synchronize()
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // A failure shows again in the next call that waits.
        let _ = self.0.synchronize();
    }
}

/// A stream.
pub struct Stream(sys::CUstream);

impl Stream {
    /// Its handle, for libraries.
    pub fn handle(&self) -> u64 {
        self.0 as u64
    }

    /// A stream that does not wait for the default stream.
    pub fn new() -> Result<Self> {
        let mut stream = ptr::null_mut();
        // SAFETY: `stream` is writable.
        unsafe {
            call!(cuStreamCreate(
                &mut stream,
                sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32
            ))
        }?;
        Ok(Self(stream))
    }

    /// The handle.
    pub fn raw(&self) -> sys::CUstream {
        self.0
    }

    /// Waits until it is through.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the stream exists.
        unsafe { call!(cuStreamSynchronize(self.0)) }.map_err(Into::into)
    }

    /// What is submitted from now on waits for the event.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        // SAFETY: both exist.
        unsafe { call!(cuStreamWaitEvent(self.0, event.0, 0)) }.map_err(Into::into)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: the stream is ours, and destroyed once.
        let _ = unsafe { call!(cuStreamDestroy_v2(self.0)) };
    }
}

/// An event.
pub struct Event(sys::CUevent);

impl Event {
    /// An event with a time.
    pub fn new() -> Result<Self> {
        let mut event = ptr::null_mut();
        // SAFETY: `event` is writable.
        unsafe { call!(cuEventCreate(&mut event, 0)) }?;
        Ok(Self(event))
    }

    /// The handle.
    pub fn raw(&self) -> sys::CUevent {
        self.0
    }

    /// Marks this point of a stream.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both exist.
        unsafe { call!(cuEventRecord(self.0, stream.0)) }.map_err(Into::into)
    }

    /// Waits until the point is reached.
    pub fn synchronize(&self) -> Result<()> {
        // SAFETY: the event exists.
        unsafe { call!(cuEventSynchronize(self.0)) }.map_err(Into::into)
    }

    /// Milliseconds since another event.
    pub fn since(&self, start: &Event) -> Result<f32> {
        let mut time = 0.0;
        // SAFETY: both exist; `time` is writable.
        unsafe { call!(cuEventElapsedTime_v2(&mut time, start.0, self.0)) }?;
        Ok(time)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is ours, and destroyed once.
        let _ = unsafe { call!(cuEventDestroy_v2(self.0)) };
    }
}

/// Free and total device memory, in bytes.
pub fn memory() -> Result<(usize, usize)> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: both are writable.
    unsafe { call!(cuMemGetInfo_v2(&mut free, &mut total)) }?;
    Ok((free, total))
}
