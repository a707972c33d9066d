//! The connection and the devices.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DeviceCalls, DeviceInfo, HelloInfo};

use super::super::session::CudaSession;

impl DeviceCalls for CudaSession {
    fn hello(&mut self, _: CtxId, _client: &str, _pid: u32) -> Result<HelloInfo, Status> {
        Ok(self.context.hello(&*self.backend))
    }

    fn counters(&mut self, _: CtxId) -> Result<String, Status> {
        Ok(self.context.counters.json())
    }

    fn device_table(&mut self, _: CtxId) -> Result<Vec<DeviceInfo>, Status> {
        let mut info = self.backend.info.clone();
        info.total_bytes = self.context.budget.limit();
        Ok(vec![info])
    }

    fn init(&mut self, _: CtxId, flags: u32) -> Result<(), Status> {
        self.start.init(flags)
    }
}
