//! The device alone in this process, without QEMU.

mod board;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use board::{Board, Plugged};
use vgpu_stub::{Config, Device, Properties, SharedMemory};
use vgpu_test_harness::machine::wait_until;
use vgpu_test_harness::{Machine, Spec, device_bodies};

/// Sessions are in this process.
type InProcess = Plugged<false>;

macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        $(#[test]
        fn $name() {
            vgpu_test_harness::bodies::$module::$name::<InProcess>();
        })*
    };
}
device_bodies!(tests);

/// Threads of this process whose name begins so.
fn threads(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc");
    let name = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()
    };
    tasks
        .flatten()
        .map(name)
        .filter(|n| n.starts_with(prefix))
        .count()
}

#[test]
fn the_line_is_lowered_when_the_last_channel_is_served() {
    let m = InProcess::start(Spec::default());
    let lowered = || m.board.lowered.load(Ordering::SeqCst);
    for channel in [0, 1] {
        let guest = vgpu_test_harness::Guest::claim(&m, channel);
        m.set_channel_reg(channel, vgpu_protocol::regs::ChannelReg::IrqEnable, 1);
        assert!(guest.park());
        guest.send(
            2,
            vgpu_protocol::message::Flags::empty(),
            Default::default(),
            vec![],
        );
        wait_until("the interrupt comes", || m.take_interrupt(channel));
    }
    let before = lowered();
    m.set_reg(vgpu_protocol::regs::Reg::IrqStatusLo, 1);
    assert_eq!(lowered(), before, "channel 1 still waits");
    m.set_reg(vgpu_protocol::regs::Reg::IrqStatusLo, 2);
    assert_eq!(lowered(), before + 1);
}

/// Three guests sleep until they are interrupted; a fourth thread is the interrupt handler.
#[test]
fn the_pin_is_high_exactly_while_a_channel_waits() {
    use vgpu_protocol::regs::{ChannelReg, Reg};
    const TURNS: u32 = 500;
    let m = InProcess::start(Spec::default());
    let served: [AtomicU32; 3] = Default::default();
    std::thread::scope(|scope| {
        for channel in 0..3u32 {
            let (m, served) = (&m, &served[channel as usize]);
            scope.spawn(move || {
                let guest = vgpu_test_harness::Guest::claim(m, channel);
                m.set_channel_reg(channel, ChannelReg::IrqEnable, 1);
                for turn in 0..TURNS {
                    assert!(guest.park());
                    guest.send(
                        2,
                        vgpu_protocol::message::Flags::empty(),
                        Default::default(),
                        vec![],
                    );
                    wait_until("the handler has been here", || {
                        served.load(Ordering::SeqCst) > turn
                    });
                    guest.receive();
                }
            });
        }
        let all = || served.iter().map(|s| s.load(Ordering::SeqCst)).sum::<u32>();
        while all() < 3 * TURNS {
            // Quick, as a CPU is: `wait_until` would let all three arrive before it looks.
            let began = std::time::Instant::now();
            while !m.board.pin.load(Ordering::SeqCst) {
                assert!(
                    began.elapsed() < Duration::from_secs(60),
                    "an interrupt was lost"
                );
                std::thread::yield_now();
            }
            let status = m.reg(Reg::IrqStatusLo);
            assert_ne!(status, 0, "the pin is high for nobody");
            m.set_reg(Reg::IrqStatusLo, status);
            for (channel, served) in served.iter().enumerate() {
                served.fetch_add(status >> channel & 1, Ordering::SeqCst);
            }
        }
    });
    assert_eq!(m.reg(Reg::IrqStatusLo), 0);
    assert!(!m.board.pin.load(Ordering::SeqCst));
}

#[test]
fn an_interrupt_that_comes_while_the_pin_is_lowered_is_not_lost() {
    use vgpu_protocol::regs::{ChannelReg, Reg};
    let m = InProcess::start(Spec::default());
    let guests = [0, 1].map(|channel| {
        let guest = vgpu_test_harness::Guest::claim(&m, channel);
        m.set_channel_reg(channel, ChannelReg::IrqEnable, 1);
        assert!(guest.park());
        guest
    });
    let ask = |guest: &vgpu_test_harness::Guest<'_, InProcess>| {
        guest.send(
            2,
            vgpu_protocol::message::Flags::empty(),
            Default::default(),
            vec![],
        );
    };
    let [first, second] = guests;
    ask(&first);
    wait_until("the first interrupt comes", || m.take_interrupt(0));
    // Channel 1's interrupt comes at the worst moment, or is held up until the pin is low.
    let lowering = Arc::new(AtomicBool::new(false));
    let (board, begun) = (Arc::clone(&m.board), Arc::clone(&lowering));
    *m.board.meanwhile.lock().expect("lock") = Some(Box::new(move || {
        begun.store(true, Ordering::SeqCst);
        let began = std::time::Instant::now();
        while board.raised.load(Ordering::SeqCst) & 2 == 0
            && began.elapsed() < Duration::from_millis(100)
        {
            std::thread::yield_now();
        }
    }));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let second = second;
            wait_until("the pin is being lowered", || {
                lowering.load(Ordering::SeqCst)
            });
            ask(&second);
        });
        m.set_reg(Reg::IrqStatusLo, 1);
    });
    wait_until("the second interrupt comes", || m.take_interrupt(1));
    assert_eq!(m.reg(Reg::IrqStatusLo), 2);
    wait_until("the pin is high, as channel 1 waits", || {
        m.board.pin.load(Ordering::SeqCst)
    });
}

#[test]
fn guest_errors_are_logged_up_to_a_limit() {
    let m = InProcess::start(Spec::default());
    let limit = vgpu_stub::device::MAX_LOGGED_GUEST_ERRORS as usize;
    for _ in 0..limit {
        m.bar0_write(0x800, 4, 1);
    }
    assert_eq!(m.board.errors.lock().expect("lock").len(), limit);
    for _ in 0..100 {
        m.bar0_write(0x800, 4, 1);
    }
    assert_eq!(
        m.board.errors.lock().expect("lock").len(),
        limit + 1,
        "one line says that there are more"
    );
}

/// Takes the 30 seconds that a guest has.
#[test]
fn a_reply_ring_that_stays_full_fails_its_channel() {
    let m = InProcess::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let guest = vgpu_test_harness::Guest::claim(&m, 0);
    for _ in 0..=m.layout().reply_bytes / 32 {
        guest.send(
            0x7fff,
            vgpu_protocol::message::Flags::empty(),
            Default::default(),
            vec![],
        );
    }
    m.expect_fault(0, vgpu_protocol::regs::ChannelFault::ReplyStalled);
    m.release(0);
    vgpu_test_harness::Guest::claim(&m, 0).hello();
}

/// In a process of its own: the other tests have threads too.
#[test]
fn a_dropped_device_leaves_no_threads() {
    if std::env::var_os("VGPU_TEST_ALONE").is_none() {
        let status = std::process::Command::new(std::env::current_exe().expect("path"))
            .args(["a_dropped_device_leaves_no_threads", "--exact"])
            .env("VGPU_TEST_ALONE", "1")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.expect("started").success());
        return;
    }
    let m = InProcess::start(Spec::default());
    let guest = vgpu_test_harness::Guest::claim(&m, 0);
    guest.context();
    // A thread names itself once it runs.
    wait_until("four workers run", || threads("vgpu-channel") == 4);
    drop(guest);
    drop(m);
    assert_eq!(threads("vgpu-"), 0);
}

#[test]
fn bar1_of_another_size_is_refused() {
    let properties = Properties {
        vm_id: 1,
        backend: "soft".to_owned(),
        ..Properties::default()
    };
    let config = Config::from_properties(&properties).expect("valid");
    let memory = SharedMemory::new(16 << 20).expect("memory");
    let error = Device::new(config, memory, Arc::new(Board::default())).expect_err("refused");
    assert!(error.to_string().contains("16777216"), "{error}");
}
