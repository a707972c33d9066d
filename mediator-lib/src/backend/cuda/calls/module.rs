//! Modules, kernels and launches.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, FunctionId, FunctionInfo, JitOption, LaunchAttribute, ModuleCalls, ModuleId,
    ModuleLoaded, StreamId,
};

use super::super::session::CudaSession;
use super::super::sys::code::{LaunchParams, Shape};
use crate::backend::launch_attributes::{self, Checked};

impl ModuleCalls for CudaSession {
    fn module_load(
        &mut self,
        ctx: CtxId,
        image: &[u8],
        options: Vec<JitOption>,
    ) -> Result<ModuleLoaded, Status> {
        self.load_module(ctx, image, &options)
    }

    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Result<(), Status> {
        self.start.require_init()?;
        self.unload_module(module)
    }

    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<FunctionInfo, Status> {
        self.find_function(module, name)
    }

    fn module_get_global(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Result<(DevPtr, u64), Status> {
        self.find_global(module, name)
    }

    fn module_functions(&mut self, _: CtxId, module: ModuleId) -> Result<Vec<String>, Status> {
        let entry = self.objects.modules.get(module)?;
        let (ctx, module) = (entry.ctx, Arc::clone(&entry.module));
        self.current(ctx)?;
        let names = module.functions();
        self.note(ctx, names)
    }

    fn func_set_attribute(
        &mut self,
        _: CtxId,
        function: FunctionId,
        attribute: i32,
        value: i32,
    ) -> Result<(), Status> {
        let entry = self.objects.functions.get(function)?;
        let ctx = entry.ctx;
        self.current(ctx)?;
        let attribute = u32::try_from(attribute).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        let set = entry.function.set_attribute(attribute, value);
        self.note(ctx, set)
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
        self.launch(
            ctx,
            function,
            (grid, block, shared_bytes),
            stream,
            None,
            params,
        )
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
        let attributes = launch_attributes::check(&attributes)?;
        let shape = (grid, block, shared_bytes);
        self.launch(ctx, function, shape, stream, Some(&attributes), params)
    }
}

impl CudaSession {
    fn launch(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        shape: Shape,
        stream: StreamId,
        attributes: Option<&Checked>,
        params: &[u8],
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        self.pace(owner, stream)?;
        let entry = self.objects.functions.get(function)?;
        let params = LaunchParams::new(params, &entry.layout)?;
        let stream = self.stream(owner, stream)?;
        let launched = match attributes {
            None => entry.function.launch(shape, stream, &params),
            Some(attributes) => entry
                .function
                .launch_with(shape, stream, attributes, &params),
        };
        if launched.is_ok() {
            entry.count.launched();
        }
        self.note(owner, launched)
    }
}
