//! Finding the driver and the GPU, and why not.

use std::process::{Command, Output};

use vgpu_mediator::backend::Backend;
use vgpu_mediator::backend::cuda::{CudaBackend, CudaUnavailable, LIBRARY_VARIABLE};
use vgpu_mediator::{BackendChoice, Mediator, MediatorConfig, MediatorError};

use crate::harness::{FakeDriver, MIB, OpenDriver, path};

fn refused(conf: &str) -> CudaUnavailable {
    FakeDriver::new(conf)
        .try_open(None)
        .expect_err("must be refused")
}

#[test]
fn the_gpu_is_described() {
    let driver = FakeDriver::new("version 12080\nmemory 33554432");
    let backend = driver.open();
    assert_eq!(backend.name(), "cuda");
    assert_eq!(backend.driver_version(), 12_080);
    assert_eq!(backend.total_memory_bytes(), 32 * MIB);
    driver.assert_all_freed();
}

#[test]
fn a_missing_library_is_an_error_with_the_remedy() {
    let error =
        CudaBackend::open_library("/nonexistent/libcuda.so.1", None).expect_err("is not there");
    assert!(
        matches!(error, CudaUnavailable::NoLibrary { .. }),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        "/nonexistent/libcuda.so.1",
        "Install the NVIDIA driver",
        "VGPU_LIBCUDA=",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert!(CudaBackend::open_library("a\0b", None).is_err());
}

#[test]
fn a_library_that_is_no_driver_is_an_error_that_names_the_function() {
    let driver = FakeDriver::without(&["cuCtxCreate_v2"], "");
    let error = driver.try_open(None).expect_err("lacks a function");
    let library = path(&driver.library).to_owned();
    assert_eq!(
        error,
        CudaUnavailable::NoSymbol {
            library,
            symbol: "cuCtxCreate_v2"
        }
    );
    assert!(driver.calls().is_empty(), "nothing may be called");
}

#[test]
fn the_library_for_guests_is_no_driver() {
    let driver = FakeDriver::with_shim_mark();
    let error = driver.try_open(None).expect_err("would call itself");
    assert!(matches!(error, CudaUnavailable::OwnShim { .. }), "{error}");
    assert!(error.to_string().contains("LD_LIBRARY_PATH"), "{error}");
    assert!(driver.calls().is_empty(), "nothing may be called");
}

#[test]
fn a_driver_that_does_not_start_is_an_error() {
    assert!(
        refused("fail cuInit 1 100")
            .to_string()
            .contains("CUDA_VISIBLE_DEVICES")
    );
    assert!(refused("fail cuInit 1 803").to_string().contains("reboot"));
    assert!(
        refused("fail cuInit 1 999")
            .to_string()
            .contains("/dev/nvidia")
    );
    assert_eq!(refused("devices 0"), CudaUnavailable::NoDevice);
    for call in [
        "cuDriverGetVersion",
        "cuDeviceGetCount",
        "cuDeviceGet",
        "cuDeviceGetAttribute",
    ] {
        refused(&format!("fail {call} 1 999"));
    }
}

#[test]
fn drivers_from_12_2_on_are_new_enough() {
    assert_eq!(
        refused("version 12010"),
        CudaUnavailable::DriverTooOld { version: 12_010 }
    );
    assert!(refused("version 11080").to_string().contains("11.8"));
    assert!(FakeDriver::new("version 12020").try_open(None).is_ok());
}

#[test]
fn a_gpu_that_reaches_host_memory_is_refused() {
    let error = refused("attribute 88 1");
    assert!(
        matches!(error, CudaUnavailable::PageableAccess { .. }),
        "{error}"
    );
    for part in [
        "GPU 0: Fake GPU 0",
        "uvm_disable_hmm=1",
        "QEMU's own memory",
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn a_prohibited_gpu_is_refused() {
    let error = refused("attribute 20 2");
    assert!(
        matches!(error, CudaUnavailable::Prohibited { index: 0, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("nvidia-smi -i 0 -c 0"),
        "{error}"
    );
    assert!(
        FakeDriver::new("attribute 20 3").try_open(None).is_ok(),
        "exclusive to one process is enough"
    );
}

#[test]
fn a_gpu_that_fails_shows_at_start() {
    for (call, status) in [
        ("cuCtxCreate_v2", 46),
        ("cuCtxGetStreamPriorityRange", 214),
        ("cuDeviceGetName", 999),
    ] {
        let driver = FakeDriver::new(&format!("fail {call} * {status}"));
        let error = driver.try_open(None).expect_err("must be refused");
        assert!(matches!(error, CudaUnavailable::Unusable { .. }), "{error}");
        assert!(
            error.to_string().contains(&status.to_string()) || call == "cuDeviceGetName",
            "{error}"
        );
        let left = driver.live();
        assert!(
            left.is_empty() || left.starts_with("live contexts=0"),
            "{left}"
        );
    }
}

#[test]
fn a_gpu_is_named_by_index_or_uuid() {
    let driver = FakeDriver::new("devices 3");
    let uuid = |last: u8| format!("GPU-0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f{last:02x}");
    for (gpu, index) in [
        ("0", 0),
        ("2", 2),
        (&*uuid(1), 1),
        (&*uuid(2).to_uppercase(), 2),
    ] {
        let backend = driver.try_open(Some(gpu)).expect("there is such a GPU");
        assert!(
            format!("{backend:?}").contains(&format!("Fake GPU {index}")),
            "{gpu}"
        );
    }
}

#[test]
fn a_gpu_that_does_not_exist_is_an_error_that_lists_those_that_do() {
    let driver = FakeDriver::new("devices 2");
    for gpu in [
        "2",
        "99999999999999999999",
        "GPU-00000000-0000-0000-0000-000000000000",
    ] {
        let error = driver.try_open(Some(gpu)).expect_err("no such GPU");
        assert!(
            matches!(error, CudaUnavailable::NoSuchGpu { .. }),
            "{error}"
        );
        let text = error.to_string();
        for part in [
            gpu,
            "GPU 0: Fake GPU 0 (GPU-0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f00)",
            "GPU 1: Fake GPU 1",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
    for gpu in ["", "one", "-1", "GPU-1", "0x0"] {
        let error = driver.try_open(Some(gpu)).expect_err("no name of a GPU");
        assert!(
            matches!(error, CudaUnavailable::NotAGpuName { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("Fake GPU 1"), "{error}");
    }
}

/// Runs one ignored test of this file in a process whose environment names `library`.
fn with_environment(test: &str, library: &str) -> Output {
    Command::new(std::env::current_exe().expect("a test has a path"))
        .args([
            "--exact",
            &format!("open::{test}"),
            "--ignored",
            "--nocapture",
        ])
        .env(LIBRARY_VARIABLE, library)
        .output()
        .expect("the test program starts")
}

fn assert_passes(test: &str, library: &str) {
    let output = with_environment(test, library);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn mediator(backend: BackendChoice, gpu: Option<&str>) -> Result<&'static str, MediatorError> {
    let config = MediatorConfig {
        vm_id: 111,
        backend,
        gpu: gpu.map(str::to_owned),
        ..MediatorConfig::default()
    };
    Mediator::new(config).map(|m| m.backend_name())
}

#[test]
#[ignore = "run by the_environment_names_the_library"]
fn child_with_a_driver() {
    assert_eq!(mediator(BackendChoice::Auto, None).expect("opens"), "cuda");
    assert_eq!(
        mediator(BackendChoice::Auto, Some("0")).expect("opens"),
        "cuda"
    );
    assert_eq!(mediator(BackendChoice::Cuda, None).expect("opens"), "cuda");
    assert_eq!(mediator(BackendChoice::Soft, None).expect("opens"), "soft");
}

#[test]
#[ignore = "run by the_environment_names_the_library"]
fn child_with_a_driver_that_is_refused() {
    assert_eq!(mediator(BackendChoice::Auto, None).expect("opens"), "soft");
    for choice in [BackendChoice::Auto, BackendChoice::Cuda] {
        let error = mediator(choice, Some("0")).expect_err("a GPU was asked for by name");
        assert!(error.to_string().contains("uvm_disable_hmm=1"), "{error}");
    }
}

#[test]
fn the_environment_names_the_library() {
    assert_passes("child_with_a_driver", path(&FakeDriver::new("").library));
    let refused = FakeDriver::new("attribute 88 1");
    assert_passes(
        "child_with_a_driver_that_is_refused",
        path(&refused.library),
    );
}
