//! Modules, kernels and launches.

use std::ffi::{CStr, CString, c_uint, c_void};
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::Arc;

use cudarc::driver::sys;
use vgpu_protocol::Status;
use vgpu_protocol::limits::{MAX_JIT_LOG_BYTES, MAX_PARAM_BYTES};

use super::object::{Context, Stream};
use super::{check, need, text_until_nul};
use crate::backend::cuda::image::CheckedImage;
use crate::backend::launch_attributes::Checked;

/// A loaded module; unloaded on drop.
#[derive(Debug)]
pub struct Module {
    ctx: Arc<Context>,
    raw: sys::CUmodule,
}

// SAFETY: as for `Context`.
unsafe impl Send for Module {}
// SAFETY: as for `Context`.
unsafe impl Sync for Module {}

/// What a load says besides its result.
#[derive(Debug, Default)]
pub struct JitLogs {
    /// `CU_JIT_INFO_LOG_BUFFER`.
    pub info: String,
    /// `CU_JIT_ERROR_LOG_BUFFER`.
    pub error: String,
}

pub(super) const INFO_LOG_BUFFER: u32 = sys::CUjit_option::CU_JIT_INFO_LOG_BUFFER as u32;
pub(super) const INFO_LOG_BYTES: u32 = sys::CUjit_option::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES as u32;
pub(super) const ERROR_LOG_BUFFER: u32 = sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER as u32;
pub(super) const ERROR_LOG_BYTES: u32 =
    sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES as u32;

/// A JIT option whose value is a number that the driver only reads.
#[derive(Clone, Copy, Debug)]
pub struct NumericOption {
    /// `CUjit_option`.
    pub(super) option: u32,
    /// Its value.
    value: u32,
}

impl NumericOption {
    /// The option with this number, where its value is a number for the driver to read. Others are
    /// addresses, and a guest must not choose an address of this process.
    pub fn new(option: u32, value: u32) -> Option<NumericOption> {
        use sys::CUjit_option::*;
        let numeric = [
            CU_JIT_MAX_REGISTERS,
            CU_JIT_THREADS_PER_BLOCK,
            CU_JIT_OPTIMIZATION_LEVEL,
            CU_JIT_TARGET_FROM_CUCONTEXT,
            CU_JIT_TARGET,
            CU_JIT_FALLBACK_STRATEGY,
            CU_JIT_GENERATE_DEBUG_INFO,
            CU_JIT_LOG_VERBOSE,
            CU_JIT_GENERATE_LINE_INFO,
            CU_JIT_CACHE_MODE,
            CU_JIT_FAST_COMPILE,
            CU_JIT_LTO,
            CU_JIT_FTZ,
            CU_JIT_PREC_DIV,
            CU_JIT_PREC_SQRT,
            CU_JIT_FMA,
            CU_JIT_OPTIMIZE_UNUSED_DEVICE_VARIABLES,
            CU_JIT_POSITION_INDEPENDENT_CODE,
            CU_JIT_MIN_CTA_PER_SM,
            CU_JIT_MAX_THREADS_PER_BLOCK,
            CU_JIT_OVERRIDE_DIRECTIVE_VALUES,
            CU_JIT_SPLIT_COMPILE,
        ];
        numeric
            .iter()
            .any(|n| *n as u32 == option)
            .then_some(NumericOption { option, value })
    }

    /// Its value as the driver takes it: a number in a pointer.
    pub(super) fn as_pointer(&self) -> *mut c_void {
        without_provenance_mut(self.value as usize)
    }
}

impl Module {
    /// `cuModuleLoadDataEx`. The logs come with either result.
    pub fn load(
        ctx: &Arc<Context>,
        image: &CheckedImage,
        options: &[NumericOption],
    ) -> (Result<Module, Status>, JitLogs) {
        let mut logs = JitLogs::default();
        let module = Module::load_into(ctx, image, options, &mut logs);
        (module, logs)
    }

    fn load_into(
        ctx: &Arc<Context>,
        image: &CheckedImage,
        options: &[NumericOption],
        logs: &mut JitLogs,
    ) -> Result<Module, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuModuleLoadDataEx)?;
        let mut info = vec![0u8; MAX_JIT_LOG_BYTES as usize];
        let mut error = vec![0u8; MAX_JIT_LOG_BYTES as usize];
        let log_bytes = without_provenance_mut(MAX_JIT_LOG_BYTES as usize);
        let mut numbers = vec![
            INFO_LOG_BUFFER,
            INFO_LOG_BYTES,
            ERROR_LOG_BUFFER,
            ERROR_LOG_BYTES,
        ];
        let mut values = vec![
            info.as_mut_ptr().cast(),
            log_bytes,
            error.as_mut_ptr().cast(),
            log_bytes,
        ];
        numbers.extend(options.iter().map(|o| o.option));
        values.extend(options.iter().map(NumericOption::as_pointer));
        let mut raw = null_mut();
        // SAFETY:
        // - the image is what its own headers say it is, and ends where they say (`CheckedImage`);
        // - both lists have as many entries as the count says;
        // - the two logs are as long as the options beside them say; all other values are numbers
        //   (`NumericOption`).
        let result = unsafe {
            f(
                &mut raw,
                image.bytes().as_ptr().cast(),
                numbers.len() as u32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        logs.info = text_until_nul(&info);
        logs.error = text_until_nul(&error);
        check(result)?;
        Ok(Module {
            ctx: Arc::clone(ctx),
            raw,
        })
    }

    /// `cuModuleUnload`. It may wait for work in flight.
    pub fn unload(mut self) -> Result<(), Status> {
        self.release()
    }

    fn release(&mut self) -> Result<(), Status> {
        let raw = std::mem::replace(&mut self.raw, null_mut());
        if raw.is_null() {
            return Ok(());
        }
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuModuleUnload)?;
        // SAFETY: loaded by `load`, unloaded once: the handle is taken. Kernels of the module keep
        // it by `Arc`, so none is left.
        check(unsafe { f(raw) })
    }

    /// `cuModuleEnumerateFunctions` and `cuFuncGetName` of each (CUDA 12.4).
    pub fn functions(&self) -> Result<Vec<String>, Status> {
        let _alive = self.ctx.enter()?;
        let functions = self.ctx.functions();
        let (count_of, list, name_of) = (
            need(functions.cuModuleGetFunctionCount)?,
            need(functions.cuModuleEnumerateFunctions)?,
            need(functions.cuFuncGetName)?,
        );
        let mut count = 0;
        // SAFETY: a module of a context that is alive; writes one number.
        check(unsafe { count_of(&mut count, self.raw) })?;
        let mut all = vec![null_mut(); count as usize];
        // SAFETY: as before; writes at most `count` handles, for which there is room.
        check(unsafe { list(all.as_mut_ptr(), count, self.raw) })?;
        let mut names = Vec::with_capacity(all.len());
        for function in all.into_iter().filter(|f| !f.is_null()) {
            let mut name = null();
            // SAFETY: a kernel of the module, whose context is alive; writes one pointer.
            check(unsafe { name_of(&mut name, function) })?;
            // SAFETY: the driver's text, NUL-terminated, which lives as long as the kernel.
            let name = unsafe { CStr::from_ptr(name) };
            names.push(name.to_string_lossy().into_owned());
        }
        Ok(names)
    }

    /// `cuModuleGetGlobal`: address and size in bytes.
    pub fn global(&self, name: &str) -> Result<(u64, u64), Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuModuleGetGlobal_v2)?;
        let name = CString::new(name).map_err(|_| Status::ERROR_NOT_FOUND)?;
        let (mut address, mut bytes) = (0, 0);
        // SAFETY: a module of a context that is alive, a NUL-terminated name; writes two numbers.
        check(unsafe { f(&mut address, &mut bytes, self.raw, name.as_ptr()) })?;
        Ok((address, bytes as u64))
    }

    /// Whether a variable is a managed one: `CU_POINTER_ATTRIBUTE_IS_MANAGED`.
    pub fn is_managed(&self, address: u64) -> Result<bool, Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuPointerGetAttribute)?;
        let mut managed = 0u32;
        let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED;
        // SAFETY: in a context that is alive; this attribute is a 32-bit number (a bool in older
        // headers, which is shorter), and the address is only looked up.
        check(unsafe { f((&raw mut managed).cast(), attribute as u32, address) })?;
        Ok(managed & 0xff != 0)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = self.release();
    }
}

/// A kernel.
#[derive(Debug)]
pub struct Function {
    module: Arc<Module>,
    raw: sys::CUfunction,
}

// SAFETY: as for `Context`.
unsafe impl Send for Function {}
// SAFETY: as for `Context`.
unsafe impl Sync for Function {}

impl Function {
    /// `cuModuleGetFunction`.
    pub fn get(module: &Arc<Module>, name: &str) -> Result<Function, Status> {
        let _alive = module.ctx.enter()?;
        let f = need(module.ctx.functions().cuModuleGetFunction)?;
        let name = CString::new(name).map_err(|_| Status::ERROR_NOT_FOUND)?;
        let mut raw = null_mut();
        // SAFETY: a module of a context that is alive, a NUL-terminated name; writes one handle.
        check(unsafe { f(&mut raw, module.raw, name.as_ptr()) })?;
        Ok(Function {
            module: Arc::clone(module),
            raw,
        })
    }

    /// A number that is the same for the same kernel of the driver.
    pub fn key(&self) -> usize {
        self.raw.addr()
    }

    /// `cuFuncGetAttribute`.
    pub fn attribute(&self, attribute: u32) -> Result<i32, Status> {
        let _alive = self.module.ctx.enter()?;
        let f = need(self.module.ctx.functions().cuFuncGetAttribute)?;
        let mut value = 0;
        // SAFETY: a kernel whose module is kept and whose context is alive; writes one number.
        check(unsafe { f(&mut value, attribute, self.raw) })?;
        Ok(value)
    }

    /// `cuFuncSetAttribute`.
    pub fn set_attribute(&self, attribute: u32, value: i32) -> Result<(), Status> {
        let _alive = self.module.ctx.enter()?;
        let f = need(self.module.ctx.functions().cuFuncSetAttribute)?;
        // SAFETY: a kernel whose module is kept and whose context is alive.
        check(unsafe { f(self.raw, attribute, value) })
    }

    /// `cuFuncGetParamInfo` of every parameter: offset and size in bytes.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` where the driver lacks the function (before 12.4).
    pub fn params(&self) -> Result<Vec<(u32, u32)>, Status> {
        let _alive = self.module.ctx.enter()?;
        let f = need(self.module.ctx.functions().cuFuncGetParamInfo)?;
        let mut params = Vec::new();
        // A parameter takes a byte at least, so there are no more than this.
        for index in 0..=MAX_PARAM_BYTES as usize {
            let (mut offset, mut bytes) = (0, 0);
            // SAFETY: a kernel whose module is kept and whose context is alive; writes two numbers.
            match check(unsafe { f(self.raw, index, &mut offset, &mut bytes) }) {
                Ok(()) => {}
                // "The index is past the last parameter."
                Err(Status::ERROR_INVALID_VALUE) => return Ok(params),
                Err(error) => return Err(error),
            }
            let number = |n: usize| u32::try_from(n).ok().filter(|n| *n <= MAX_PARAM_BYTES);
            params.push((
                number(offset).ok_or(Status::ERROR_UNKNOWN)?,
                number(bytes).ok_or(Status::ERROR_UNKNOWN)?,
            ));
        }
        Err(Status::ERROR_UNKNOWN)
    }

    /// `cuLaunchKernel` with a block of parameters.
    pub fn launch(
        &self,
        shape: Shape,
        stream: &Stream,
        params: &LaunchParams<'_>,
    ) -> Result<(), Status> {
        let _alive = stream.context().enter()?;
        let f = need(stream.context().functions().cuLaunchKernel)?;
        if !Arc::ptr_eq(stream.context(), &self.module.ctx) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let mut bytes = params.0.len();
        let mut extra = params.extra(&mut bytes);
        let ([gx, gy, gz], [bx, by, bz], shared_bytes) = shape;
        // SAFETY:
        // - kernel and stream belong to the one context, which is alive and current;
        // - the parameter buffer is as long as the size beside it says, is only read, and is copied
        //   before the call returns (CUDA Driver API, cuLaunchKernel);
        // - the length is the kernel's own (`LaunchParams`), so the driver reads no further;
        // - what the kernel does with the values stays in its context's device memory: the backend
        //   refuses a GPU that reaches pageable host memory.
        check(unsafe {
            f(
                self.raw,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared_bytes,
                stream.raw,
                null_mut(),
                extra.as_mut_ptr(),
            )
        })
    }

    /// `cuLaunchKernelEx` with a block of parameters.
    pub fn launch_with(
        &self,
        shape: Shape,
        stream: &Stream,
        attributes: &Checked,
        params: &LaunchParams<'_>,
    ) -> Result<(), Status> {
        let _alive = stream.context().enter()?;
        let f = need(stream.context().functions().cuLaunchKernelEx)?;
        if !Arc::ptr_eq(stream.context(), &self.module.ctx) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let mut list: Vec<sys::CUlaunchAttribute> = attributes
            .plain
            .iter()
            .map(|(id, value)| attribute(*id, *value))
            .collect();
        if attributes.cooperative {
            let id = sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
            list.push(attribute(id, [1, 0, 0, 0, 0, 0, 0, 0]));
        }
        if let Some([x, y, z]) = attributes.cluster {
            let id = sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
            let value = [
                u64::from(x) | u64::from(y) << 32,
                z.into(),
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            list.push(attribute(id, value));
        }
        let ([gx, gy, gz], [bx, by, bz], shared_bytes) = shape;
        let config = sys::CUlaunchConfig {
            gridDimX: gx,
            gridDimY: gy,
            gridDimZ: gz,
            blockDimX: bx,
            blockDimY: by,
            blockDimZ: bz,
            sharedMemBytes: shared_bytes,
            hStream: stream.raw,
            attrs: list.as_mut_ptr(),
            numAttrs: list.len() as c_uint,
        };
        let mut bytes = params.0.len();
        let mut extra = params.extra(&mut bytes);
        // SAFETY: as for `launch`. The list has as many entries as the number beside it says and lives
        // until the call returns; none of them holds a handle or an address (`launch_attributes`).
        check(unsafe { f(&raw const config, self.raw, null_mut(), extra.as_mut_ptr()) })
    }
}

/// Grid, block, and bytes of dynamic shared memory.
pub type Shape = ([u32; 3], [u32; 3], u32);

/// An attribute in the driver's form.
fn attribute(id: sys::CUlaunchAttributeID, value: [u64; 8]) -> sys::CUlaunchAttribute {
    const { assert!(size_of::<sys::CUlaunchAttributeValue>() == 64) };
    // SAFETY: a union of plain numbers and addresses of the same size: every pattern is a value.
    let value = unsafe { std::mem::transmute::<[u64; 8], sys::CUlaunchAttributeValue>(value) };
    sys::CUlaunchAttribute {
        id,
        pad: [0; 4],
        value,
    }
}

/// A parameter block whose length is the kernel's.
#[derive(Debug)]
pub struct LaunchParams<'a>(&'a [u8]);

impl<'a> LaunchParams<'a> {
    /// The list by which a launch is told where the block is; nothing but its end where there is none.
    /// `bytes` is the block's length, to which the list points.
    fn extra(&self, bytes: &mut usize) -> [*mut c_void; 5] {
        // CU_LAUNCH_PARAM_END.
        let end = null_mut();
        if *bytes == 0 {
            return [end; 5];
        }
        [
            without_provenance_mut(1), // CU_LAUNCH_PARAM_BUFFER_POINTER
            self.0.as_ptr().cast_mut().cast(),
            without_provenance_mut(2), // CU_LAUNCH_PARAM_BUFFER_SIZE
            std::ptr::from_mut(bytes).cast(),
            end,
        ]
    }

    /// The part of a block that the layout covers, up to the end of the last parameter.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE` where the block is shorter.
    pub fn new(block: &'a [u8], layout: &[(u32, u32)]) -> Result<LaunchParams<'a>, Status> {
        let end = layout
            .iter()
            .map(|(offset, bytes)| u64::from(*offset) + u64::from(*bytes))
            .max()
            .unwrap_or(0);
        let end = usize::try_from(end).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        block
            .get(..end)
            .map(LaunchParams)
            .ok_or(Status::ERROR_INVALID_VALUE)
    }
}
