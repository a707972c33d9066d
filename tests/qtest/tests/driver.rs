//! `backend=cuda` in QEMU, on a driver without a GPU (`tests/fake-cuda`): hosts that cannot be used, and a GPU
//! that fails when the guest is at work.

use vgpu_fake_cuda as _; // Built, so that it can be loaded.
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, StreamId, stubs};
use vgpu_protocol::regs::ChannelState;
use vgpu_qtest::qemu::{Binary, Qemu};
use vgpu_qtest::{Board, binary};
use vgpu_test_harness::fake_driver::FakeDriver;
use vgpu_test_harness::machine::{VM_ID, wait_until};
use vgpu_test_harness::{Guest, Machine, Spec};

const STREAM: StreamId = StreamId(0);

/// The device in QEMU's process, and in processes of their own.
const WAYS: [&str; 2] = ["none", "process"];

/// A QEMU that finds this driver, its NVML and its cuBLAS.
fn qemu(driver: &FakeDriver) -> Binary {
    let library = driver.library.to_str().expect("a path of text");
    let found = binary().unwrap_or_else(|skip| panic!("{}", skip.0));
    found.with_environment(&[
        ("VGPU_LIBCUDA", library),
        ("VGPU_LIBNVML", library),
        ("VGPU_LIBCUBLAS", library),
        ("VGPU_LIBCUBLASLT", library),
    ])
}

fn properties(spec: Spec, isolation: &str) -> String {
    format!(
        "vgpu-stub,vm_id={VM_ID},backend=cuda,isolation={isolation},channels={},bar1-size={},memory={}",
        spec.channels, spec.bar1_bytes, spec.memory_bytes
    )
}

fn board(driver: &FakeDriver, isolation: &str) -> Board {
    let spec = Spec {
        memory_bytes: 32 << 20,
        ..Spec::default()
    };
    Board::of(&qemu(driver), "q35", spec, &properties(spec, isolation))
}

pub fn hosts_that_cannot_be_used_are_refused_with_the_remedy() {
    // Configuration of the driver, more properties, what the message must name.
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "version 12010",
            "",
            &["CUDA 12.1", "12.2 or newer", "install"],
        ),
        ("devices 0", "", &["no GPU", "nvidia-smi"]),
        ("fail cuInit * 100", "", &["cuInit", "CUDA_VISIBLE_DEVICES"]),
        ("fail cuInit * 803", "", &["cuInit", "reboot"]),
        ("fail cuInit * 999", "", &["/dev/nvidia", "nvidia-modprobe"]),
        (
            "devices 2",
            ",gpu=2",
            &["gpu=2", "no such GPU", "GPU 1: Fake GPU 1"],
        ),
        (
            "",
            ",gpu=GPU-00000000-0000-0000-0000-000000000000",
            &["no such GPU", "GPU 0: Fake GPU 0"],
        ),
        ("", ",gpu=first", &["gpu=first", "neither an index", "UUID"]),
        (
            "attribute 20 2",
            "",
            &["prohibited", "nvidia-smi -i 0 -c 0"],
        ),
        ("attribute 88 1", "", &["uvm_disable_hmm=1"]),
        ("fail cuCtxCreate_v2 * 46", "", &["cuCtxCreate", "Xid"]),
        ("fail cuCtxCreate_v2 * 214", "", &["cuCtxCreate", "Xid"]),
    ];
    let refused = |binary: &Binary, properties: &str, parts: &[&str]| {
        let device = format!("vgpu-stub,vm_id={VM_ID},backend=cuda{properties}");
        let outcome = Qemu::try_start(binary, &["-machine", "q35", "-device", &device]);
        let message = outcome.err().unwrap_or_else(|| panic!("{device} started"));
        for part in parts {
            assert!(
                message.contains(part),
                "{device}: no {part:?} in: {message}"
            );
        }
    };
    for way in WAYS {
        for (configuration, more, parts) in cases {
            let driver = FakeDriver::new(configuration);
            refused(&qemu(&driver), &format!(",isolation={way}{more}"), parts);
        }
        let driver = FakeDriver::new("");
        let nowhere =
            qemu(&driver).with_environment(&[("VGPU_LIBCUDA", "/nonexistent/libcuda.so.1")]);
        let parts = [
            "/nonexistent/libcuda.so.1",
            "Install the NVIDIA driver",
            "VGPU_LIBCUDA=",
        ];
        refused(&nowhere, &format!(",isolation={way}"), &parts);
    }
}

pub fn a_host_without_cublas_says_so_and_starts() {
    for way in WAYS {
        let driver = FakeDriver::new("");
        let spec = Spec::default();
        let without =
            qemu(&driver).with_environment(&[("VGPU_LIBCUBLAS", "/nonexistent/libcublas.so")]);
        let spec = Spec {
            memory_bytes: 32 << 20,
            ..spec
        };
        let board = Board::of(&without, "q35", spec, &properties(spec, way));
        wait_until("the message", || {
            board.logged("no cuBLAS on this host") && board.logged("VGPU_LIBCUBLAS=PATH")
        });
        let guest = Guest::claim(&board, 0);
        let ctx = context(&guest).expect("a context");
        let status = stubs::blas_create(&guest, ctx, vgpu_protocol::calls::BlasId(1));
        assert_eq!(status, Ok(1), "CUBLAS_STATUS_NOT_INITIALIZED");
        works(&guest, ctx);
    }
}

/// Connects and makes a context.
fn context(guest: &Guest<'_, Board>) -> Result<CtxId, Status> {
    let info = stubs::hello(guest, CtxId(0), "qtest", 1)?;
    assert_eq!(info.backend, "cuda");
    stubs::init(guest, CtxId(0), 0)?;
    stubs::primary_ctx_retain(guest, CtxId(0), 0)
}

fn fill(guest: &Guest<'_, Board>, ctx: CtxId, memory: DevPtr) -> Result<(), Status> {
    stubs::memset(guest, ctx, memory, 4, 0x0102_0304, 4, STREAM)?;
    stubs::ctx_synchronize(guest, ctx)
}

/// A session that computes.
fn works(guest: &Guest<'_, Board>, ctx: CtxId) {
    let memory = stubs::mem_alloc(guest, ctx, 64).expect("memory");
    fill(guest, ctx, memory).expect("a set");
    let read = stubs::memcpy_dtoh_inline(guest, ctx, memory, STREAM, 4).expect("a copy");
    assert_eq!(read.0, [4, 3, 2, 1]);
    stubs::mem_free(guest, ctx, memory).expect("posted");
    stubs::ctx_synchronize(guest, ctx).expect("freed");
}

fn alive(board: &Board) {
    let status = board.qemu.qmp(r#"{"execute":"query-status"}"#);
    assert!(status.contains("running"), "{status}");
}

pub fn a_failure_in_mid_stream_is_the_guests_error() {
    for way in WAYS {
        // The GPU is not available, an uncorrectable ECC error, a failed launch: only the last is CUDA's for
        // good.
        for (status, stays) in [(46, false), (214, false), (719, true)] {
            let driver = FakeDriver::new("");
            let board = board(&driver, way);
            let (one, other) = (Guest::claim(&board, 0), Guest::claim(&board, 1));
            let (ctx, other_ctx) = (context(&one).expect("one"), context(&other).expect("two"));
            let memory = stubs::mem_alloc(&one, ctx, 64).expect("memory");
            let what = format!("isolation={way}, {status}");
            driver.configure(&format!("fail cuMemsetD32Async * {status}"));
            // The set is posted: its error comes with the call that waits, once.
            assert_eq!(fill(&one, ctx, memory), Err(Status(status)), "{what}");
            alive(&board);
            driver.configure("");
            let then = fill(&one, ctx, memory);
            let told = if stays { Err(Status(status)) } else { Ok(()) };
            assert_eq!(then, told, "{what}");
            works(&other, other_ctx);
            one.release();
            let again = Guest::claim(&board, 0);
            let ctx = context(&again).expect("a new session");
            works(&again, ctx);
            works(&other, other_ctx);
        }
    }
}

pub fn a_gpu_that_falls_off_the_bus_takes_nothing_else_along() {
    for way in WAYS {
        for status in [46, 214, 719, 999] {
            let driver = FakeDriver::new("");
            let board = board(&driver, way);
            let guest = Guest::claim(&board, 0);
            let ctx = context(&guest).expect("a context");
            let memory = stubs::mem_alloc(&guest, ctx, 64).expect("memory");
            stubs::stream_create(&guest, ctx, StreamId(1), 1, 0).expect("posted");
            fill(&guest, ctx, memory).expect("a set");
            driver.configure(&format!("lost {status}"));
            let what = format!("isolation={way}, {status}");
            let error = Err(Status(status));
            assert_eq!(fill(&guest, ctx, memory), error, "{what}");
            assert_eq!(
                stubs::mem_alloc(&guest, ctx, 64).err(),
                error.err(),
                "{what}"
            );
            let read = stubs::memcpy_dtoh_inline(&guest, ctx, memory, STREAM, 4);
            assert_eq!(read.err(), error.err(), "{what}");
            // A process that starts now learns it at its first context, or finds its channel failed.
            board.claim(2);
            wait_until("the channel is served, or has failed", || {
                matches!(board.state(2), ChannelState::Failed | ChannelState::Claimed)
            });
            alive(&board);
            guest.release();
            board.release(2);
            alive(&board);
            // The GPU is back: what begins then computes.
            driver.configure("");
            let mut ready = None;
            wait_until("a new session computes", || {
                let next = Guest::claim(&board, 1);
                std::thread::sleep(std::time::Duration::from_millis(20));
                if board.state(1) == ChannelState::Failed {
                    next.release();
                    return false;
                }
                ready = Some(next);
                true
            });
            let next = ready.expect("waited for");
            let ctx = context(&next).expect("a context");
            works(&next, ctx);
            alive(&board);
        }
    }
}

/// Programs that QEMU has started: those of its sessions.
fn workers(board: &Board) -> Vec<String> {
    let own = board.qemu.pid().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state ppid …".
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent == Some(&own) {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.push(comm.trim().to_owned());
        }
    }
    found
}

pub fn sessions_are_in_processes_of_their_own() {
    let driver = FakeDriver::new("");
    let board = board(&driver, "process");
    let guests: Vec<_> = (0..3)
        .map(|channel| {
            let guest = Guest::claim(&board, channel);
            let ctx = context(&guest).expect("a context");
            (guest, ctx)
        })
        .collect();
    for (guest, ctx) in &guests {
        works(guest, *ctx);
    }
    // One for each, and one that waits.
    wait_until("there are four", || workers(&board).len() == 4);
    assert!(
        workers(&board).iter().all(|name| name == "vgpu-worker"),
        "{:?}",
        workers(&board)
    );
    let pid = board.qemu.pid();
    for (guest, _) in guests {
        guest.release();
    }
    wait_until("one waits", || workers(&board).len() == 1);
    drop(board);
    wait_until("QEMU is gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}
