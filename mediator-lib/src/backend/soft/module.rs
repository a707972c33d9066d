//! Modules and their kernels.

use std::sync::Arc;

use cudarc::driver::sys::CUfunction_attribute_enum as FuncAttr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionId, FunctionInfo, HostMemoryCalls, ModuleId, ModuleLoaded,
};
use vgpu_protocol::limits::MAX_JIT_LOG_BYTES;
use vgpu_soft_gpu::{AllocError, Function, LoadError, LoadOptions, Module};

use super::device;
use super::op::Work;
use super::session::{FunctionEntry, ModuleEntry, SoftSession};

impl SoftSession {
    pub(super) fn load_module(&mut self, ctx: CtxId, image: &[u8]) -> Result<ModuleLoaded, Status> {
        let entry = self.current(ctx)?;
        let space = Arc::clone(&entry.shared.space);
        let before = space.used();
        // Managed variables lie where the guest's program reaches them, too.
        let mut managed = ((0, DevPtr(0)), 0);
        let mut find = |bytes| {
            let found = self.host_alloc(ctx, bytes);
            let (at, address) = found.map_err(|_| AllocError::OutOfMemory {
                requested: bytes,
                free: self.context.heap.free_bytes(),
                limit: self.context.heap.bytes(),
            })?;
            managed = ((at, address), bytes);
            Ok(address.0)
        };
        let options = LoadOptions::default();
        let loaded = Module::load_beside(image, &options, &space, Some(&mut find));
        let loaded = match loaded {
            Ok(module) => self.keep_module(ctx, module, before),
            Err(error) => Ok(load_failure(&error)),
        };
        match loaded {
            Ok(loaded) if loaded.status == 0 => Ok(ModuleLoaded {
                managed: managed.0,
                managed_bytes: managed.1,
                ..loaded
            }),
            failed => {
                // Nothing has run that could use it.
                self.mapped.unified.close_window(managed.0.1.0);
                self.pinned.remove(&managed.0.1.0);
                failed
            }
        }
    }

    /// Puts a loaded module into the table. Its context's memory had `before` bytes in use without it.
    fn keep_module(
        &mut self,
        ctx: CtxId,
        module: Module,
        before: u64,
    ) -> Result<ModuleLoaded, Status> {
        let space = Arc::clone(&self.current(ctx)?.shared.space);
        let globals = space.used().saturating_sub(before);
        if module.uses_heap() && !self.create_heap(ctx)? {
            return Ok(ModuleLoaded {
                status: Status::ERROR_SHARED_OBJECT_INIT_FAILED.0,
                error_log: "no memory for the device heap (CU_LIMIT_MALLOC_HEAP_SIZE)".into(),
                ..ModuleLoaded::default()
            });
        }
        let Some(share) = self.context.budget.take(globals) else {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        };
        let info_log = cut(module.info_log());
        let id = self.modules.add(ModuleEntry {
            ctx,
            module: Arc::new(module),
            share: Some(share),
        })?;
        Ok(ModuleLoaded {
            status: 0,
            module: id,
            info_log,
            ..ModuleLoaded::default()
        })
    }

    /// Makes the context's heap; false where the VM has no memory for it.
    fn create_heap(&mut self, ctx: CtxId) -> Result<bool, Status> {
        let entry = self.current(ctx)?;
        let runtime = Arc::clone(&entry.shared.runtime);
        let space = Arc::clone(&entry.shared.space);
        if runtime.has_heap() {
            return Ok(true);
        }
        let Some(share) = self.context.budget.take(runtime.heap_bytes()) else {
            return Ok(false);
        };
        if runtime.create_heap(&space).is_err() {
            return Ok(false);
        }
        self.current_mut(ctx)?.heap = Some(share);
        Ok(true)
    }

    pub(super) fn unload_module(&mut self, module: ModuleId) -> Result<(), Status> {
        let entry = self.modules.remove(module)?;
        self.functions.take_if(|f| f.module == module);
        let work = Work::Unload {
            module: entry.module,
            share: entry.share,
        };
        self.submit_free(entry.ctx, work).map(|_| ())
    }

    pub(super) fn get_function(
        &mut self,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        let entry = self.modules.get(module)?;
        let function = entry.module.function(name).ok_or(Status::ERROR_NOT_FOUND)?;
        if let Some(why) = function.unsupported() {
            tracing::warn!(
                kernel = name,
                why,
                "a kernel that the software GPU cannot execute"
            );
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let params = function
            .params()
            .iter()
            .map(|p| (p.offset, p.size))
            .collect();
        let attributes = function_attributes(&function);
        let max_dynamic_shared = default_dynamic_shared(&function);
        let entry = FunctionEntry {
            ctx: entry.ctx,
            module,
            function,
            max_dynamic_shared,
            count: self.context.counters.kernel(name),
            prepared: None,
        };
        Ok(FunctionInfo {
            function: self.functions.add(entry)?,
            params,
            attributes,
        })
    }

    pub(super) fn set_function_attribute(
        &mut self,
        function: FunctionId,
        attribute: i32,
        value: i32,
    ) -> Result<(), Status> {
        let entry = self.functions.get_mut(function)?;
        if attribute == FuncAttr::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as i32 {
            let room = device::SHARED_BYTES_PER_BLOCK_OPTIN
                .saturating_sub(entry.function.static_shared_bytes());
            let bytes = u32::try_from(value).map_err(|_| Status::ERROR_INVALID_VALUE)?;
            if bytes > room {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            entry.max_dynamic_shared = bytes;
            return Ok(());
        }
        if attribute == FuncAttr::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as i32 {
            // "This is only a hint" (cuFuncSetAttribute); the software GPU has no carveout.
            return if (-1..=100).contains(&value) {
                Ok(())
            } else {
                Err(Status::ERROR_INVALID_VALUE)
            };
        }
        Err(Status::ERROR_INVALID_VALUE)
    }
}

pub(super) fn cut(log: &str) -> String {
    let end = (0..=log.len().min(MAX_JIT_LOG_BYTES as usize))
        .rev()
        .find(|i| log.is_char_boundary(*i));
    log[..end.unwrap_or(0)].to_owned()
}

/// The status and the error log of a load that failed.
pub(super) fn failure(error: &LoadError) -> (Status, String) {
    let status = match error {
        LoadError::InvalidPtx { .. } => Status::ERROR_INVALID_PTX,
        LoadError::UnsupportedPtxVersion { .. } => Status::ERROR_UNSUPPORTED_PTX_VERSION,
        LoadError::NoBinaryForGpu => Status::ERROR_NO_BINARY_FOR_GPU,
        LoadError::OutOfMemory(_) => Status::ERROR_OUT_OF_MEMORY,
        _ => Status::ERROR_INVALID_IMAGE,
    };
    let log = match error {
        LoadError::InvalidPtx { log, .. } => cut(log),
        other => cut(&other.to_string()),
    };
    (status, log)
}

fn load_failure(error: &LoadError) -> ModuleLoaded {
    let (status, error_log) = failure(error);
    ModuleLoaded {
        status: status.0,
        error_log,
        ..ModuleLoaded::default()
    }
}

fn default_dynamic_shared(function: &Function) -> u32 {
    device::SHARED_BYTES_PER_BLOCK.saturating_sub(function.static_shared_bytes())
}

fn function_attributes(function: &Function) -> Vec<(i32, i32)> {
    use FuncAttr::*;
    let signed = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
    [
        (
            CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
            function.max_threads_per_block(),
        ),
        (
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
            function.static_shared_bytes(),
        ),
        (CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, function.const_bytes()),
        (
            CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
            function.local_bytes_per_thread(),
        ),
        (CU_FUNC_ATTRIBUTE_NUM_REGS, function.registers()),
        (CU_FUNC_ATTRIBUTE_PTX_VERSION, function.ptx_version()),
        (CU_FUNC_ATTRIBUTE_BINARY_VERSION, function.binary_version()),
        (CU_FUNC_ATTRIBUTE_CACHE_MODE_CA, 0),
        (
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
            default_dynamic_shared(function),
        ),
    ]
    .into_iter()
    .map(|(attribute, value)| (attribute as i32, signed(value)))
    .chain([(
        CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT as i32,
        -1,
    )])
    .collect()
}
