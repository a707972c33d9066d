//! Sessions in processes of their own: the device's tests once more, and what becomes of a process
//! that dies, hangs or talks nonsense.

mod board;

use std::process::Command;

use board::{Plugged, properties};
use vgpu_fake_cuda as _; // Built, so that it can be loaded.
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, FunctionId, StreamId, stubs};
use vgpu_protocol::regs::{ChannelFault, ChannelReg, ChannelState};
use vgpu_stub::{Config, Device, Properties, SharedMemory};
use vgpu_test_harness::fake_driver::FakeDriver;
use vgpu_test_harness::machine::wait_until;
use vgpu_test_harness::{Guest, Machine, Spec, device_bodies, ptx};

type Isolated = Plugged<true>;

const STREAM: StreamId = StreamId(0);

macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        $(#[test]
        fn $name() {
            vgpu_test_harness::bodies::$module::$name::<Isolated>();
        })*
    };
}
device_bodies!(tests);

/// Runs the test that calls this once more, alone in a process, which has none but its own threads,
/// descriptors and children. True in that process.
fn alone(test: &str, environment: &[(&str, &str)]) -> bool {
    const MARK: &str = "VGPU_TEST_ALONE";
    if std::env::var_os(MARK).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("path"))
        .args(["--exact", test, "--nocapture"])
        .envs(environment.iter().copied())
        .env(MARK, "1")
        .output()
        .expect("the test program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    // Not at the start of a line, where it would count as a test of this process.
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}",
        (text.into_owned() + &String::from_utf8_lossy(&output.stderr)).replace('\n', "\n| ")
    );
    false
}

/// Process ids of this process's children.
fn children() -> Vec<u32> {
    let own = format!("{}", std::process::id());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state ppid …", and the name may hold anything.
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent == Some(&own) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found
}

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).expect("proc").count()
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.expect("kill").success());
}

/// A guest whose worker process is known: it is the one that serves and is not spare.
fn guest_with_process<'m>(m: &'m Isolated, channel: u32) -> (Guest<'m, Isolated>, CtxId, u32) {
    // The device takes the process that waits, and starts the next one.
    let before = children();
    let guest = Guest::claim(m, channel);
    let ctx = guest.context();
    wait_until("the next worker process is started", || {
        children().len() == before.len() + 1
    });
    let spare = *before.last().expect("one waits");
    (guest, ctx, spare)
}

#[test]
fn a_killed_process_takes_nothing_else_along() {
    if alone("a_killed_process_takes_nothing_else_along", &[]) {
        child_kills();
    }
}

fn child_kills() {
    let counters = std::env::temp_dir().join(format!("vgpu-deaths-{}", std::process::id()));
    let _ = std::fs::remove_file(&counters);
    let spec = Spec {
        memory_bytes: 64 << 20,
        ..Spec::default()
    };
    let mut config = Config::from_properties(&properties(spec, true)).expect("valid");
    config.mediator.counters_file = Some(counters.clone());
    let m = Isolated::with_config(spec, config);
    assert_eq!(m.device.isolation(), "process");
    let (other, other_ctx, _) = guest_with_process(&m, 3);
    let free = || stubs::mem_get_info(&other, other_ctx).expect("info").0;
    let all = free();
    let settled = || {
        (
            count("/proc/self/fd"),
            count("/proc/self/task"),
            children().len(),
        )
    };
    // The thread that starts a process holds more descriptors until it has done so: a channel that is free
    // again is behind that, and has taken the process that the other channel's thread started.
    Guest::claim(&m, 0).release();
    wait_until("one process serves and one waits", || children().len() == 2);
    let before = settled();
    for turn in 1..=3 {
        let (guest, ctx, pid) = guest_with_process(&m, 0);
        stubs::mem_alloc(&guest, ctx, 48 << 20).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
        assert_eq!(
            stubs::mem_alloc(&other, other_ctx, 32 << 20).err(),
            Some(Status::ERROR_OUT_OF_MEMORY),
            "the VM's share is one"
        );
        let listed = stubs::nvml_processes(&other, other_ctx).expect("processes");
        assert_eq!((listed.len(), listed[0].used_bytes), (1, 48 << 20));
        signal(pid, "-KILL");
        m.expect_fault(0, ChannelFault::WorkerDied);
        assert_eq!(m.device.worker_deaths(), turn);
        assert_eq!(
            free(),
            all,
            "the other session goes on, with all the memory"
        );
        m.release(0);
        wait_until("all is as before", || settled() == before);
    }
    drop(other);
    let text = std::fs::read_to_string(&counters).expect("the counters file");
    let deaths: Vec<_> = text.lines().filter(|l| l.contains("\"worker\"")).collect();
    assert_eq!(deaths.len(), 3, "{text}");
    assert!(
        deaths[0].contains("\"client\":\"test\"") && deaths[0].contains("signal: 9"),
        "{text}"
    );
    drop(m);
    assert!(children().is_empty(), "no process is left");
    let _ = std::fs::remove_file(&counters);
}

#[test]
fn a_process_that_does_not_answer_is_killed_at_the_end() {
    if alone("a_process_that_does_not_answer_is_killed_at_the_end", &[]) {
        child_stops();
    }
}

fn child_stops() {
    let m = Isolated::start(Spec::default());
    let (guest, _, pid) = guest_with_process(&m, 0);
    signal(pid, "-STOP");
    guest.release();
    assert!(!children().contains(&pid), "it is gone");
    Guest::claim(&m, 0).context();
    // The one that waits may be stopped, too: the device ends all the same.
    drop(m);
    assert!(children().is_empty());
}

#[test]
fn a_spare_process_that_died_is_replaced() {
    if alone("a_spare_process_that_died_is_replaced", &[]) {
        child_kills_the_spare();
    }
}

fn child_kills_the_spare() {
    let m = Isolated::start(Spec::default());
    let spare = children()[0];
    signal(spare, "-KILL");
    // A signal takes its time on a busy machine; nobody has waited for the process yet, so its entry stays.
    // Its first thread is a zombie as soon as it has ended; the process is one when all have.
    let (stat, threads) = (format!("/proc/{spare}/stat"), format!("/proc/{spare}/task"));
    wait_until("the spare process ends", || {
        let text = std::fs::read_to_string(&stat).expect("an unreaped process");
        let state = text.rsplit(')').next();
        state.is_some_and(|rest| rest.trim_start().starts_with('Z')) && count(&threads) == 1
    });
    Guest::claim(&m, 0).context();
    assert_eq!(m.device.worker_deaths(), 0, "it served nobody");
}

fn refused(change: impl FnOnce(&mut Properties)) -> String {
    let spec = Spec::default();
    let mut properties = properties(spec, true);
    change(&mut properties);
    let config = Config::from_properties(&properties).expect("valid");
    let memory = SharedMemory::new(spec.bar1_bytes).expect("memory");
    let board = std::sync::Arc::new(board::Board::default());
    Device::new(config, memory, board)
        .expect_err("refused")
        .to_string()
}

#[test]
fn what_cannot_be_had_is_refused_with_the_remedy() {
    let text = refused(|p| p.worker = "/nowhere".to_owned());
    assert!(
        text.contains("/nowhere") && text.contains("'worker'"),
        "{text}"
    );
    let text = refused(|p| p.worker = "/bin/true".to_owned());
    assert!(
        text.contains("/bin/true") && text.contains("before it was ready"),
        "{text}"
    );
    // The mediator's own messages come through.
    let text = refused(|p| p.memory = 1 << 60);
    assert!(text.contains("memory=1152921504606846976"), "{text}");
    let text = refused(|p| p.gpu = "7".to_owned());
    assert!(
        text.contains("gpu=7") && text.contains("backend=soft"),
        "{text}"
    );
}

#[test]
fn the_program_says_what_it_is_when_it_is_started_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_vgpu-worker"))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("isolation=process"));
}

#[test]
fn text_of_kernels_comes_through() {
    let m = Isolated::start(Spec::default());
    let guest = Guest::claim(&m, 0);
    let ctx = guest.context();
    let loaded = stubs::module_load(&guest, ctx, ptx::MISCHIEF.as_bytes(), Vec::new());
    assert_eq!(loaded.expect("a module").status, 0);
    assert_eq!(stubs::output(&guest, ctx).expect("text").0.0, b"");
}

// The host's driver, which is a fake one here.

const PTX: &str = ".version 8.0\n.target sm_90\n\
    .entry fill(.param .u64 to, .param .u32 value, .param .u32 count) { ret; }\n\
    .entry endless() { ret; }\n\
    .entry illegal() { ret; }\n\
    .entry print() { ret; }\n\
    .entry crash() { ret; }\n";

/// As [`alone`], with a fake driver of this configuration.
fn with_driver(test: &str, configuration: &str) -> bool {
    let driver = FakeDriver::new(configuration);
    let library = driver.library.to_str().expect("text");
    alone(test, &[("VGPU_LIBCUDA", library), ("VGPU_LIBNVML", "none")])
}

fn cuda(spec: Spec, change: impl FnOnce(&mut Properties)) -> Isolated {
    let mut properties = properties(spec, true);
    "cuda".clone_into(&mut properties.backend);
    change(&mut properties);
    Isolated::with(spec, &properties)
}

/// 64 MiB are what the fake GPU has.
fn small() -> Spec {
    Spec {
        memory_bytes: 32 << 20,
        ..Spec::default()
    }
}

fn context(guest: &Guest<'_, Isolated>) -> CtxId {
    let hello = stubs::hello(guest, CtxId(0), "test", 1).expect("hello");
    assert_eq!(hello.backend, "cuda");
    stubs::init(guest, CtxId(0), 0).expect("cuInit");
    stubs::primary_ctx_retain(guest, CtxId(0), 0).expect("a context")
}

fn kernel(guest: &Guest<'_, Isolated>, ctx: CtxId, name: &str) -> FunctionId {
    let loaded = stubs::module_load(guest, ctx, PTX.as_bytes(), Vec::new()).expect("a module");
    assert_eq!(loaded.status, 0, "{}", loaded.error_log);
    let found = stubs::module_get_function(guest, ctx, loaded.module, name);
    found.expect("a kernel").function
}

fn launch(guest: &Guest<'_, Isolated>, ctx: CtxId, function: FunctionId, params: &[u8]) {
    stubs::launch_kernel(guest, ctx, function, [1; 3], [32, 1, 1], 0, STREAM, params)
        .expect("posted");
}

/// A kernel fills memory, and it is read back.
fn works(guest: &Guest<'_, Isolated>, ctx: CtxId) {
    let at = stubs::mem_alloc(guest, ctx, 64).expect("memory");
    let params = |at: DevPtr| {
        let mut params = at.0.to_le_bytes().to_vec();
        params.extend(7u32.to_le_bytes());
        params.extend(1u32.to_le_bytes());
        params
    };
    launch(guest, ctx, kernel(guest, ctx, "fill"), &params(at));
    let read = stubs::memcpy_dtoh_inline(guest, ctx, at, STREAM, 4).expect("read");
    assert_eq!(read.0, 7u32.to_le_bytes());
    stubs::mem_free(guest, ctx, at).expect("freed");
}

#[test]
fn a_driver_that_crashes_ends_one_session() {
    if with_driver("a_driver_that_crashes_ends_one_session", "") {
        child_crashes();
    }
}

fn child_crashes() {
    let m = cuda(small(), |_| ());
    let (guest, other) = (Guest::claim(&m, 0), Guest::claim(&m, 1));
    let (ctx, other_ctx) = (context(&guest), context(&other));
    let crash = kernel(&guest, ctx, "crash");
    stubs::mem_alloc(&guest, ctx, 1 << 20).expect("memory");
    let before = stubs::mem_get_info(&other, other_ctx).expect("info").0;
    launch(&guest, ctx, crash, &[]);
    m.expect_fault(0, ChannelFault::WorkerDied);
    works(&other, other_ctx);
    let after = stubs::mem_get_info(&other, other_ctx).expect("info").0;
    assert_eq!(after, before + (1 << 20), "what it held is free");
    m.release(0);
    let again = Guest::claim(&m, 0);
    works(&again, context(&again));
}

#[test]
fn an_error_of_the_whole_process_ends_one_session() {
    if with_driver(
        "an_error_of_the_whole_process_ends_one_session",
        "sticky process",
    ) {
        child_sticky();
    }
}

fn child_sticky() {
    let m = cuda(small(), |_| ());
    let (guest, other) = (Guest::claim(&m, 0), Guest::claim(&m, 1));
    let (ctx, other_ctx) = (context(&guest), context(&other));
    launch(&guest, ctx, kernel(&guest, ctx, "illegal"), &[]);
    let illegal = Status::ERROR_ILLEGAL_ADDRESS;
    assert_eq!(stubs::ctx_synchronize(&guest, ctx), Err(illegal));
    assert_eq!(
        stubs::mem_alloc(&guest, ctx, 1).err(),
        Some(illegal),
        "it stays"
    );
    works(&other, other_ctx);
    // Without processes of their own the other one is hit, too: it is what they are for.
    let mut properties = properties(small(), false);
    "cuda".clone_into(&mut properties.backend);
    let m = Isolated::with(small(), &properties);
    assert_eq!(m.device.isolation(), "none");
    let (guest, other) = (Guest::claim(&m, 0), Guest::claim(&m, 1));
    let (ctx, other_ctx) = (context(&guest), context(&other));
    launch(&guest, ctx, kernel(&guest, ctx, "illegal"), &[]);
    assert_eq!(stubs::ctx_synchronize(&guest, ctx), Err(illegal));
    assert_eq!(stubs::mem_alloc(&other, other_ctx, 1).err(), Some(illegal));
}

#[test]
fn a_kernel_that_never_ends_goes_with_its_session() {
    if with_driver("a_kernel_that_never_ends_goes_with_its_session", "") {
        child_endless();
    }
}

fn child_endless() {
    let m = cuda(small(), |_| ());
    // More than a backend in one process would keep waiting for (`MAX_UNENDED_SESSIONS`).
    for turn in 0..12 {
        let guest = Guest::claim(&m, 0);
        let ctx = context(&guest);
        stubs::mem_alloc(&guest, ctx, 24 << 20).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
        launch(&guest, ctx, kernel(&guest, ctx, "endless"), &[]);
        guest.release();
    }
    assert_eq!(m.device.worker_deaths(), 0);
    let guest = Guest::claim(&m, 0);
    works(&guest, context(&guest));
}

#[test]
fn what_kernels_print_is_the_guests() {
    if with_driver("what_kernels_print_is_the_guests", "") {
        child_prints();
    }
}

fn child_prints() {
    let m = cuda(small(), |_| ());
    let (guest, other) = (Guest::claim(&m, 0), Guest::claim(&m, 1));
    let (ctx, other_ctx) = (context(&guest), context(&other));
    let print = kernel(&guest, ctx, "print");
    let asked = |guest: &Guest<'_, Isolated>, ctx| {
        let (out, err) = stubs::output(guest, ctx).expect("text");
        (
            String::from_utf8(out.0).expect("text"),
            String::from_utf8(err.0).expect("text"),
        )
    };
    for count in [1, 2, 20_000] {
        // Far more than a pipe holds.
        for _ in 0..count {
            launch(&guest, ctx, print, &[]);
        }
        stubs::ctx_synchronize(&guest, ctx).expect("done");
        let (mut out, mut err) = asked(&guest, ctx);
        loop {
            let (more_out, more_err) = asked(&guest, ctx);
            if more_out.is_empty() && more_err.is_empty() {
                break;
            }
            out += &more_out;
            err += &more_err;
        }
        assert_eq!(out, "fake kernel: text\n".repeat(count));
        assert_eq!(err, "fake kernel: complaint\n".repeat(count));
    }
    assert_eq!(asked(&other, other_ctx), (String::new(), String::new()));
}

#[test]
fn processes_are_the_default_for_the_hosts_gpu() {
    if with_driver("processes_are_the_default_for_the_hosts_gpu", "") {
        child_default();
    }
}

fn child_default() {
    for backend in ["auto", "cuda"] {
        let m = cuda(small(), |p| {
            "auto".clone_into(&mut p.isolation);
            backend.clone_into(&mut p.backend);
        });
        assert_eq!(
            (m.device.isolation(), m.device.backend_name()),
            ("process", "cuda")
        );
    }
    let m = cuda(small(), |p| {
        "auto".clone_into(&mut p.isolation);
        "soft".clone_into(&mut p.backend);
    });
    assert_eq!(
        (m.device.isolation(), m.device.backend_name()),
        ("none", "soft")
    );
    // The program is not there: sessions are in this process, unless it was named.
    let m = cuda(small(), |p| {
        "auto".clone_into(&mut p.isolation);
        p.worker.clear();
    });
    assert_eq!(m.device.isolation(), "none");
}

#[test]
fn a_gpu_that_is_refused_is_not_used() {
    if with_driver("a_gpu_that_is_refused_is_not_used", "attribute 88 1") {
        child_refused();
    }
}

fn child_refused() {
    let m = cuda(small(), |p| {
        "auto".clone_into(&mut p.isolation);
        "auto".clone_into(&mut p.backend);
    });
    assert_eq!(
        (m.device.isolation(), m.device.backend_name()),
        ("none", "soft")
    );
    for (isolation, backend, gpu) in [
        ("auto", "auto", "0"),
        ("auto", "cuda", ""),
        ("process", "cuda", "0"),
    ] {
        let text = refused(|p| {
            isolation.clone_into(&mut p.isolation);
            backend.clone_into(&mut p.backend);
            gpu.clone_into(&mut p.gpu);
        });
        assert!(text.contains("uvm_disable_hmm=1"), "{text}");
    }
}

#[test]
fn a_channel_fails_where_no_process_starts() {
    if with_driver("a_channel_fails_where_no_process_starts", "") {
        child_no_process();
    }
}

fn child_no_process() {
    let library = std::env::var("VGPU_LIBCUDA").expect("set");
    let m = cuda(small(), |_| ());
    let first = Guest::claim(&m, 0);
    context(&first);
    wait_until("the next worker process is started", || {
        children().len() == 2
    });
    // The GPU falls off the bus: the next process finds none.
    let conf = library.replace("libcuda.so.1", "libcuda.so.conf");
    std::fs::write(conf, "fail cuInit * 100").expect("written");
    for pid in children() {
        // The spare one may have been ready already.
        signal(pid, "-KILL");
    }
    m.expect_fault(0, ChannelFault::WorkerDied);
    m.claim(1);
    m.expect_fault(1, ChannelFault::WorkerDied);
    m.release(1);
    assert_eq!(m.state(1), ChannelState::Free);
    assert_eq!(m.channel_reg(1, ChannelReg::Fault), 0);
}
