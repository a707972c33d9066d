//! Modules.

use std::collections::HashMap;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionId, FunctionInfo, JitOption, ModuleId, ModuleLoaded,
};
use vgpu_protocol::limits::MAX_MODULES;

use super::image::{self, CheckedImage};
use super::launch::{self, FunctionEntry};
use super::ptx::{self, Layout};
use super::session::CudaSession;
use super::sys::code::{Function, Module, NumericOption};
use super::sys::memory;
use super::sys::object::Context;
use crate::budget::Share;

/// A module as the session's table holds it.
#[derive(Debug)]
pub struct ModuleEntry {
    /// Its context.
    pub ctx: CtxId,
    /// The driver's module.
    pub module: Arc<Module>,
    /// Parameter layouts by kernel, where the image's text had to be read for them.
    pub layouts: HashMap<String, Layout>,
    /// Its kernels that were looked up, by [`Function::key`].
    pub functions: HashMap<usize, FunctionId>,
    /// What its code and variables take on the GPU.
    pub cost: Cost,
}

/// Memory of the GPU that a module takes.
#[derive(Debug)]
pub enum Cost {
    /// Part of the session's [`UNCOUNTED_BYTES`].
    Uncounted(u64),
    /// Part of the VM's share; given back with the module.
    Counted {
        /// The part.
        _share: Share,
    },
}

/// What a session's modules may take on the GPU without being counted, in bytes: the code of small
/// modules, and with it what others on the GPU take during a load, from which it cannot be told.
/// Beyond it modules are counted: a guest would otherwise take memory beyond the VM's share by
/// declaring arrays.
pub const UNCOUNTED_BYTES: u64 = 64 << 20;

/// The options that reach the driver.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for an option whose value is an address, for the log buffers, which the
/// protocol carries itself, and for a value of more than 32 bits.
pub(super) fn numeric_options(options: &[JitOption]) -> Result<Vec<NumericOption>, Status> {
    let numeric = |o: &JitOption| {
        let value = u32::try_from(o.value).ok()?;
        NumericOption::new(o.option, value)
    };
    options
        .iter()
        .map(|o| numeric(o).ok_or(Status::ERROR_INVALID_VALUE))
        .collect()
}

/// The layouts of all kernels in an image's readable PTX.
fn layouts(image: &CheckedImage<'_>) -> HashMap<String, Layout> {
    image.ptx().flat_map(ptx::layouts).collect()
}

impl CudaSession {
    /// `cuModuleLoadDataEx`.
    pub(super) fn load_module(
        &mut self,
        ctx: CtxId,
        image: &[u8],
        options: &[JitOption],
    ) -> Result<ModuleLoaded, Status> {
        let driver_ctx = Arc::clone(&self.current(ctx)?.ctx);
        let options = numeric_options(options)?;
        if self.objects.modules.len() >= MAX_MODULES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let image = match CheckedImage::check(image) {
            Ok(image) => image,
            Err(what) => return Ok(failed_load(image::REFUSED, String::new(), what)),
        };
        let lost = self.context.captured.is_none();
        if lost && image.ptx().any(|text| text.contains("vprintf")) {
            tracing::warn!(
                vm_id = self.context.vm_id,
                channel = self.context.channel,
                "a module whose kernels use printf: NVIDIA's driver writes their text to this process's standard output, the guest does not get it; with isolation=process it does"
            );
        }
        // The driver may wait for the context's work, in a way that cannot be ended.
        self.wait_idle(ctx)?;
        let before = self.free_memory(&driver_ctx)?;
        let (module, logs) = Module::load(&driver_ctx, &image, &options);
        let module = match self.note(ctx, module) {
            Ok(module) => Arc::new(module),
            Err(status) => return Ok(failed_load(status, logs.info, logs.error)),
        };
        let taken = self
            .free_memory(&driver_ctx)
            .map(|after| before.saturating_sub(after));
        let cost = match taken.and_then(|taken| self.count(taken)) {
            Ok(cost) => cost,
            Err(status) => {
                self.discard(ctx, module);
                return Err(status);
            }
        };
        let layouts = match driver_ctx.tells_params() {
            true => HashMap::new(),
            false => layouts(&image),
        };
        let entry = ModuleEntry {
            ctx,
            module,
            layouts,
            functions: HashMap::new(),
            cost,
        };
        let id = self.objects.modules.add(entry)?;
        Ok(ModuleLoaded {
            status: 0,
            module: id,
            info_log: logs.info,
            error_log: logs.error,
            ..ModuleLoaded::default()
        })
    }

    /// Free memory of the GPU, with what this VM's own allocations have taken added: what is left
    /// between two looks is what the load took, or what others on the GPU did meanwhile.
    fn free_memory(&self, ctx: &Context) -> Result<u64, Status> {
        let (free, _) = memory::info(ctx)?;
        Ok(free.saturating_add(self.context.budget.limit() - self.context.budget.free()))
    }

    fn count(&mut self, taken: u64) -> Result<Cost, Status> {
        if taken <= self.uncounted_left {
            self.uncounted_left -= taken;
            return Ok(Cost::Uncounted(taken));
        }
        let share = self
            .context
            .budget
            .take(taken)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        Ok(Cost::Counted { _share: share })
    }

    /// `cuModuleUnload`.
    pub(super) fn unload_module(&mut self, module: ModuleId) -> Result<(), Status> {
        let ctx = self.objects.modules.get(module)?.ctx;
        // The driver would wait for the module's kernels, in a way that cannot be ended.
        self.settle(ctx)?;
        self.objects.functions.take_if(|f| f.module == module);
        self.objects
            .contexts
            .get_mut(ctx)?
            .allocations
            .remove_globals(module.0);
        let entry = self.objects.modules.remove(module)?;
        self.give_back(&entry);
        // Its kernels are gone, so this is the last one who holds it.
        let unloaded = Arc::into_inner(entry.module).map_or(Ok(()), Module::unload);
        self.note(ctx, unloaded)
    }

    /// Called when a module goes.
    pub(super) fn give_back(&mut self, module: &ModuleEntry) {
        if let Cost::Uncounted(bytes) = module.cost {
            self.uncounted_left += bytes;
        }
    }

    /// `cuModuleGetFunction`. A kernel that was looked up before keeps its handle.
    pub(super) fn find_function(
        &mut self,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        let entry = self.objects.modules.get(module)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let found = Function::get(&entry.module, name).and_then(|function| {
            let layout = launch::layout(&function, entry.layouts.get(name))?;
            Ok((function, layout))
        });
        if found.as_ref().err() == Some(&Status::ERROR_NOT_SUPPORTED) {
            tracing::warn!(
                kernel = name,
                "the driver (before 12.4) does not tell a kernel's parameters and its image holds no readable PTX"
            );
        }
        let (function, params) = self.note(ctx, found)?;
        let attributes = launch::attributes(&function);
        let key = function.key();
        let known = self
            .objects
            .modules
            .get(module)?
            .functions
            .get(&key)
            .copied();
        let function = match known {
            Some(id) => id,
            None => {
                let layout = params.clone();
                let id = self.objects.functions.add(FunctionEntry {
                    ctx,
                    module,
                    function,
                    layout,
                    count: self.context.counters.kernel(name),
                })?;
                self.objects
                    .modules
                    .get_mut(module)?
                    .functions
                    .insert(key, id);
                id
            }
        };
        Ok(FunctionInfo {
            function,
            params,
            attributes,
        })
    }

    /// `cuModuleGetGlobal`.
    pub(super) fn find_global(
        &mut self,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.objects.modules.get(module)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let module_of = Arc::clone(&entry.module);
        let (address, bytes) = self.note(ctx, module_of.global(name))?;
        if self.note(ctx, module_of.is_managed(address))? {
            tracing::warn!(
                variable = name,
                "a managed variable: its memory is this process's, and the guest's program cannot reach it"
            );
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        self.current_mut(ctx)?
            .allocations
            .add_global(module.0, address, bytes)?;
        Ok((DevPtr(address), bytes))
    }
}

fn failed_load(status: Status, info_log: String, error_log: String) -> ModuleLoaded {
    ModuleLoaded {
        status: status.0,
        info_log,
        error_log,
        ..ModuleLoaded::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_options() {
        let option =
            |option, value| numeric_options(&[JitOption { option, value }]).map(|o| o.len());
        // CU_JIT_MAX_REGISTERS, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_TARGET.
        for number in [0, 7, 9] {
            assert_eq!(option(number, 32), Ok(1));
            assert_eq!(option(number, u64::from(u32::MAX)), Ok(1));
            assert_eq!(option(number, 1 << 32), Err(Status::ERROR_INVALID_VALUE));
        }
        // The logs, CU_JIT_GLOBAL_SYMBOL_NAMES, _ADDRESSES, CU_JIT_REFERENCED_KERNEL_NAMES, unknown.
        for number in [2, 3, 4, 5, 6, 17, 18, 19, 25, 26, 1000, u32::MAX] {
            assert_eq!(
                option(number, 0),
                Err(Status::ERROR_INVALID_VALUE),
                "{number}"
            );
        }
        assert_eq!(numeric_options(&[]).map(|o| o.len()), Ok(0));
    }
}
