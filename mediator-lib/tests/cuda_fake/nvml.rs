//! What the host's NVML says, on its way to the guest.

use vgpu_mediator::backend::cuda::CudaBackend;
use vgpu_protocol::Status;
use vgpu_protocol::calls::CtxId;
use vgpu_protocol::nvml::{NvmlField, NvmlText};

use crate::harness::{Channel, FakeDriver, MIB, path};

const NO_CTX: CtxId = CtxId(0);

fn channel(driver: &FakeDriver) -> Channel {
    let library = path(&driver.library);
    let backend = CudaBackend::open_libraries(library, library, None).expect("opens");
    Channel::open(&backend)
}

#[test]
fn numbers_and_texts_are_the_hosts() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let session = &mut channel.session;
    let system = session.nvml_system(NO_CTX).expect("answers");
    assert_eq!(system.driver_version, "575.51.03");
    assert_eq!(system.nvml_version, "12.575.51.03");
    for (field, expected) in [
        (NvmlField::Temperature, 41),
        (NvmlField::PowerUsage, 72_500),
        (NvmlField::UtilizationGpu, 37),
        (NvmlField::UtilizationMemory, 12),
        (NvmlField::PowerMinLimit, 200_000),
        (NvmlField::PowerMaxLimit, 700_000),
        (NvmlField::EccUncorrectedAggregate, 11),
        (NvmlField::EccCorrectedAggregate, 1),
        (NvmlField::Bar1Total, 1 << 37),
        (NvmlField::Bar1Used, 4096),
    ] {
        assert_eq!(
            session.nvml_value(NO_CTX, field as u32),
            Ok(expected),
            "{field:?}"
        );
    }
    let serial = session.nvml_text(NO_CTX, NvmlText::Serial as u32);
    assert_eq!(serial.as_deref(), Ok("1650123456789"));
}

#[test]
fn what_the_host_does_not_know_is_not_supported() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let session = &mut channel.session;
    // A function that answers "not supported", and one that the library lacks.
    for field in [NvmlField::BoardId, NvmlField::ClockSm] {
        let value = session.nvml_value(NO_CTX, field as u32);
        assert_eq!(value, Err(Status::ERROR_NOT_SUPPORTED), "{field:?}");
    }
    let text = session.nvml_text(NO_CTX, NvmlText::VbiosVersion as u32);
    assert_eq!(text, Err(Status::ERROR_NOT_SUPPORTED));
    for number in [0, 999] {
        assert_eq!(
            session.nvml_value(NO_CTX, number),
            Err(Status::ERROR_INVALID_VALUE)
        );
        assert_eq!(
            session.nvml_text(NO_CTX, number),
            Err(Status::ERROR_INVALID_VALUE)
        );
    }
}

#[test]
fn a_host_without_nvml_still_has_a_gpu() {
    let driver = FakeDriver::new("");
    let library = path(&driver.library);
    let backend = CudaBackend::open_libraries(library, "/nonexistent/libnvidia-ml.so.1", None)
        .expect("opens");
    let mut channel = Channel::open(&backend);
    assert_eq!(
        channel
            .session
            .nvml_value(NO_CTX, NvmlField::Temperature as u32),
        Err(Status::ERROR_NOT_SUPPORTED)
    );
    assert_eq!(channel.session.nvml_memory(NO_CTX), Ok((16 * MIB, 0)));
}

#[test]
fn memory_is_the_vms_share_and_what_is_taken_of_it() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let ctx = channel.context();
    let before = channel.session.nvml_memory(NO_CTX).expect("answers").1;
    channel.session.mem_alloc(ctx, 2 * MIB).expect("memory");
    assert_eq!(
        channel.session.nvml_memory(NO_CTX),
        Ok((16 * MIB, before + 2 * MIB))
    );
    // No session has said who it is.
    assert_eq!(channel.session.nvml_processes(NO_CTX), Ok(Vec::new()));
}
