//! What NVML tells of the software device: only what is measured.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, NvmlCalls, NvmlProcess, NvmlSystem};
use vgpu_protocol::nvml::{NvmlField, NvmlText};

use super::super::device::{DRIVER_NAME, DRIVER_VERSION};
use super::super::session::SoftSession;

/// `NVML_BRAND_UNKNOWN`.
const BRAND_UNKNOWN: u64 = 0;

impl NvmlCalls for SoftSession {
    fn nvml_system(&mut self, _: CtxId) -> Result<NvmlSystem, Status> {
        Ok(NvmlSystem {
            driver_version: DRIVER_NAME.to_owned(),
            nvml_version: format!("{}.{DRIVER_NAME}", DRIVER_VERSION / 1000),
        })
    }

    fn nvml_value(&mut self, _: CtxId, field: u32) -> Result<u64, Status> {
        match NvmlField::from_wire(field).ok_or(Status::ERROR_INVALID_VALUE)? {
            // A kernel reads or writes memory all the time: the two are not told apart.
            NvmlField::UtilizationGpu | NvmlField::UtilizationMemory => {
                Ok(self.backend.gpu.busy().percent().into())
            }
            NvmlField::Brand => Ok(BRAND_UNKNOWN),
            // It has no sensors, clocks, links or error counters of its own.
            _ => Err(Status::ERROR_NOT_SUPPORTED),
        }
    }

    fn nvml_text(&mut self, _: CtxId, field: u32) -> Result<String, Status> {
        NvmlText::from_wire(field).ok_or(Status::ERROR_INVALID_VALUE)?;
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    fn nvml_memory(&mut self, _: CtxId) -> Result<(u64, u64), Status> {
        Ok(self.context.memory())
    }

    fn nvml_processes(&mut self, _: CtxId) -> Result<Vec<NvmlProcess>, Status> {
        Ok(self.context.processes.list())
    }
}
