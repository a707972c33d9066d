//! The connection and the devices.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DeviceCalls, DeviceInfo, HelloInfo};

use super::super::device;
use super::super::session::SoftSession;

impl DeviceCalls for SoftSession {
    fn hello(&mut self, _: CtxId, _client: &str, _pid: u32) -> Result<HelloInfo, Status> {
        Ok(self.context.hello(&*self.backend))
    }

    fn counters(&mut self, _: CtxId) -> Result<String, Status> {
        Ok(self.context.counters.json())
    }

    fn device_table(&mut self, _: CtxId) -> Result<Vec<DeviceInfo>, Status> {
        Ok(vec![device::info(
            self.context.vm_id,
            self.context.budget.limit(),
            self.backend.gpu.threads(),
        )])
    }

    fn init(&mut self, _: CtxId, flags: u32) -> Result<(), Status> {
        self.start.init(flags)
    }
}
