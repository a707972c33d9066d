//! Modules, kernels and launches.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionId, FunctionInfo, JitOption, LaunchAttribute, ModuleCalls, ModuleId,
    ModuleLoaded, StreamId,
};
use vgpu_soft_gpu::LaunchConfig;

use super::super::session::SoftSession;
use crate::backend::launch_attributes;

impl ModuleCalls for SoftSession {
    fn module_load(
        &mut self,
        ctx: CtxId,
        image: &[u8],
        _options: Vec<JitOption>,
    ) -> Result<ModuleLoaded, Status> {
        self.load_module(ctx, image)
    }

    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Result<(), Status> {
        self.unload_module(module)
    }

    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        self.get_function(module, name)
    }

    fn module_get_global(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.modules.get(module)?;
        let (addr, bytes) = entry.module.global(name).ok_or(Status::ERROR_NOT_FOUND)?;
        Ok((DevPtr(addr), bytes))
    }

    fn module_functions(&mut self, _: CtxId, module: ModuleId) -> Result<Vec<String>, Status> {
        let functions = self.modules.get(module)?.module.functions();
        Ok(functions.iter().map(|f| f.name().to_owned()).collect())
    }

    fn func_set_attribute(
        &mut self,
        _: CtxId,
        function: FunctionId,
        attribute: i32,
        value: i32,
    ) -> Result<(), Status> {
        self.set_function_attribute(function, attribute, value)
    }

    fn launch_kernel(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        stream: StreamId,
        params: &[u8],
    ) -> Result<(), Status> {
        let shape = LaunchConfig {
            grid,
            block,
            dynamic_shared_bytes: shared_bytes,
        };
        self.launch(ctx, function, shape, stream, false, params)
    }

    fn launch_kernel_ex(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        stream: StreamId,
        attributes: Vec<LaunchAttribute>,
        params: &[u8],
    ) -> Result<(), Status> {
        let asked = launch_attributes::check(&attributes)?;
        // The device says that it has no clusters.
        if asked.cluster.is_some_and(|cluster| cluster != [1; 3]) {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let shape = LaunchConfig {
            grid,
            block,
            dynamic_shared_bytes: shared_bytes,
        };
        self.launch(ctx, function, shape, stream, asked.cooperative, params)
    }
}
