//! What NVML tells of the host's GPU. Memory and processes are the VM's own; all other numbers are the GPU's,
//! whoever uses it.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, NvmlCalls, NvmlProcess, NvmlSystem};
use vgpu_protocol::nvml::{NvmlField, NvmlText};

use super::super::session::CudaSession;
use crate::backend::Backend;

/// Where Linux shows the version of NVIDIA's kernel module.
const MODULE_VERSION: &str = "/sys/module/nvidia/version";

impl NvmlCalls for CudaSession {
    fn nvml_system(&mut self, _: CtxId) -> Result<NvmlSystem, Status> {
        if let Ok(nvml) = self.backend.nvml() {
            return nvml.system();
        }
        // Programs decide by the driver's version, which its kernel module tells as well.
        let driver = std::fs::read_to_string(MODULE_VERSION).ok();
        let driver = driver.ok_or(Status::ERROR_NOT_SUPPORTED)?;
        let driver_version = driver.trim().to_owned();
        let cuda = self.backend.driver_version() / 1000;
        Ok(NvmlSystem {
            nvml_version: format!("{cuda}.{driver_version}"),
            driver_version,
        })
    }

    fn nvml_value(&mut self, _: CtxId, field: u32) -> Result<u64, Status> {
        let field = NvmlField::from_wire(field).ok_or(Status::ERROR_INVALID_VALUE)?;
        self.backend.nvml()?.value(field)
    }

    fn nvml_text(&mut self, _: CtxId, field: u32) -> Result<String, Status> {
        let field = NvmlText::from_wire(field).ok_or(Status::ERROR_INVALID_VALUE)?;
        self.backend.nvml()?.text(field)
    }

    fn nvml_memory(&mut self, _: CtxId) -> Result<(u64, u64), Status> {
        Ok(self.context.memory())
    }

    fn nvml_processes(&mut self, _: CtxId) -> Result<Vec<NvmlProcess>, Status> {
        Ok(self.context.processes.list())
    }
}
