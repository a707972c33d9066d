//! What guests that mean harm, or that are gone, cost the host: counted, not timed.

use std::time::{Duration, Instant};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, FunctionId, Opcode, StreamId, request, stubs};
use vgpu_protocol::layout::index;
use vgpu_protocol::message::Flags;
use vgpu_protocol::regs::{ChannelReg, ChannelState, RESET_KEY, Reg};
use vgpu_protocol::wire::Writer;

use crate::guest::Guest;
use crate::machine::{Machine, Spec, wait_until};
use crate::ptx;

/// Doorbells of a flood.
const RINGS: u64 = 2000;

/// A time in which a worker that has something to do wakes up.
const A_WHILE: Duration = Duration::from_millis(50);

/// Waits until a worker is not woken any more; gives how often it has been.
fn settled<M: Machine>(m: &M, channel: u32) -> Option<u64> {
    let mut last = m.wakeups(channel)?;
    wait_until("the worker sleeps on", || {
        std::thread::sleep(A_WHILE);
        let before = std::mem::replace(&mut last, m.wakeups(channel).unwrap_or_default());
        before == last
    });
    Some(last)
}

fn forever<M: Machine>(guest: &Guest<'_, M>, ctx: CtxId) -> FunctionId {
    let loaded =
        stubs::module_load(guest, ctx, ptx::MISCHIEF.as_bytes(), Vec::new()).expect("module");
    assert_eq!(loaded.status, 0, "{}", loaded.error_log);
    let forever = stubs::module_get_function(guest, ctx, loaded.module, "forever");
    forever.expect("kernel").function
}

fn launch<M: Machine>(guest: &Guest<'_, M>, ctx: CtxId, function: FunctionId) {
    let (grid, block) = ([1; 3], [32, 1, 1]);
    stubs::launch_kernel(guest, ctx, function, grid, block, 0, StreamId(0), &[]).expect("posted");
}

pub fn a_guest_that_rings_without_writing<M: Machine>() {
    let m = M::start(Spec::default());
    let bystander = Guest::claim(&m, 0);
    bystander.hello();
    let guest = Guest::claim(&m, 1);
    guest.hello();
    let head = m.load64(guest.word(index::COMMAND_HEAD));
    // A claimed channel, and one that nobody has.
    for channel in [1, 2] {
        let before = settled(&m, channel);
        for n in 0..RINGS {
            m.ring(channel);
            if n % 200 == 0 {
                bystander.hello();
            }
        }
        // Each doorbell wakes the worker once at most, and then it sleeps as before.
        if let (Some(before), Some(after)) = (before, settled(&m, channel)) {
            assert!(
                after - before <= RINGS,
                "{} wake-ups for {RINGS} doorbells of channel {channel}",
                after - before
            );
        }
    }
    assert_eq!(m.load64(guest.word(index::COMMAND_HEAD)), head);
    assert_eq!(m.state(2), ChannelState::Free);
    guest.hello();
}

pub fn a_guest_that_does_nothing_wakes_nobody<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 1);
    let ctx = guest.context();
    let ptr = stubs::mem_alloc(&guest, ctx, 4096).expect("memory");
    stubs::memset(&guest, ctx, ptr, 1, 7, 4096, StreamId(0)).expect("posted");
    stubs::ctx_synchronize(&guest, ctx).expect("done");
    let before = settled(&m, 1);
    std::thread::sleep(4 * A_WHILE);
    assert_eq!(m.wakeups(1), before);
}

pub fn a_guest_that_holds_its_ring_full<M: Machine>() {
    let m = M::start(Spec {
        channels: 64,
        ..Spec::default()
    });
    let bystander = Guest::claim(&m, 0);
    bystander.hello();
    let guest = Guest::claim(&m, 1);
    let ctx = guest.context();
    let function = forever(&guest, ctx);
    // Launches fill the queue of work, and then the ring.
    let head = guest.word(index::COMMAND_HEAD);
    let mut stuck = None;
    loop {
        if launch_if_room(&guest, ctx, function) {
            stuck = None;
            continue;
        }
        let now = m.load64(head);
        if stuck.replace(now) == Some(now) {
            break;
        }
        std::thread::sleep(A_WHILE);
    }
    // The worker looks now and then whether there is room, and the others go on.
    let (began, before) = (Instant::now(), m.wakeups(1));
    for _ in 0..20 {
        bystander.hello();
    }
    std::thread::sleep(A_WHILE);
    if let (Some(before), Some(after)) = (before, m.wakeups(1)) {
        // At most once in a millisecond, and as much again for what was under way.
        let allowed = began.elapsed().as_millis() as u64 + 20;
        assert!(
            after - before <= allowed,
            "{} wake-ups, allowed are {allowed}",
            after - before
        );
    }
    guest.release();
    Guest::claim(&m, 1).hello();
}

/// Launches once more; false where the ring has no room.
fn launch_if_room<M: Machine>(guest: &Guest<'_, M>, ctx: CtxId, function: FunctionId) -> bool {
    let mut writer = Writer::new();
    let opcode = request::launch_kernel(
        &mut writer,
        function,
        [1; 3],
        [32, 1, 1],
        0,
        StreamId(0),
        &[],
    );
    let parts = writer.parts();
    let bytes = parts.iter().map(|part| part.len()).sum();
    let header = guest.header(opcode as u16, Flags::POSTED, ctx, bytes);
    let kick = guest.push(header, &parts);
    if kick == Some(true) {
        guest.ring();
    }
    kick.is_some()
}

pub fn a_guest_that_claims_all_channels<M: Machine>() {
    const CHANNELS: u32 = 16;
    let m = M::start(Spec {
        channels: CHANNELS,
        ..Spec::default()
    });
    let before = m.held();
    for turn in 0..5 {
        for channel in 0..CHANNELS {
            let guest = Guest::claim(&m, channel);
            if turn % 2 == 0 {
                guest.context();
            }
        }
        // Nobody else gets one, and the device says so: it stays as it is.
        for channel in 0..CHANNELS {
            let generation = m.channel_reg(channel, ChannelReg::Generation);
            m.set_channel_reg(channel, ChannelReg::Control, 1);
            assert_eq!(
                m.channel_reg(channel, ChannelReg::Generation),
                generation,
                "claimed twice"
            );
        }
        assert!(m.logged("cannot be claimed"));
        (0..CHANNELS).for_each(|channel| m.release(channel));
    }
    wait_until("the host has what it had", || m.held() == before);
    Guest::claim(&m, 7).hello();
}

pub fn a_reset_under_load_leaves_nothing<M: Machine>() {
    const CHANNELS: u32 = 8;
    let m = M::start(Spec {
        channels: CHANNELS,
        ..Spec::default()
    });
    let free = || {
        let guest = Guest::claim(&m, 0);
        let ctx = guest.context();
        let free = stubs::mem_get_info(&guest, ctx).expect("info").0;
        guest.release();
        free
    };
    let (all, before) = (free(), m.held());
    for turn in 0..4 {
        for channel in 0..CHANNELS {
            let guest = Guest::claim(&m, channel);
            let ctx = guest.context();
            stubs::mem_alloc(&guest, ctx, 1 << 20).expect("memory");
            match (channel + turn) % 4 {
                // Endless work, and a call that waits for it.
                0 => {
                    let function = forever(&guest, ctx);
                    launch(&guest, ctx, function);
                    guest.send(Opcode::cuCtxSynchronize as u16, Flags::empty(), ctx, vec![]);
                }
                // A function that the guest never calls.
                1 => stubs::launch_host_func(&guest, ctx, StreamId(0), 1).expect("posted"),
                // Half a message.
                2 => {
                    let load = Opcode::cuModuleLoadDataEx as u16;
                    let header = guest.header(load, Flags::MORE, ctx, 64 << 10);
                    guest.push_and_ring(header, &[&[0; 32]]);
                }
                // A channel that has failed.
                _ => {
                    guest.store_end(guest.sent(), u64::MAX);
                    guest.ring();
                }
            }
        }
        m.set_reg(Reg::DeviceReset, RESET_KEY);
        (0..CHANNELS).for_each(|channel| m.wait_free(channel));
    }
    assert_eq!(free(), all, "device memory");
    wait_until("the host has what it had", || m.held() == before);
}

pub fn bars_that_are_hidden_while_work_is_in_flight<M: Machine>() {
    let m = M::start(Spec::default());
    let guest = Guest::claim(&m, 1);
    let ctx = guest.context();
    let ptr = stubs::mem_alloc(&guest, ctx, 1 << 20).expect("memory");
    for turn in 0..8u32 {
        // Work, data in flight, and a reply on its way.
        for _ in 0..4 {
            stubs::memset(&guest, ctx, ptr, 4, turn, 1 << 18, StreamId(0)).expect("posted");
        }
        let seq = guest.send(Opcode::cuCtxSynchronize as u16, Flags::empty(), ctx, vec![]);
        m.show_bars(false);
        std::thread::sleep(Duration::from_millis(2));
        m.show_bars(true);
        let (message, _) = guest.receive();
        assert_eq!((message.seq, Status(message.word)), (seq, Status::SUCCESS));
        let back = stubs::memcpy_dtoh_inline(&guest, ctx, ptr, StreamId(0), 64).expect("copy");
        assert!(back.0.chunks(4).all(|word| word == turn.to_le_bytes()));
    }
    // A release without the window: the next owner finds a working channel.
    let function = forever(&guest, ctx);
    launch(&guest, ctx, function);
    m.show_bars(false);
    std::thread::sleep(Duration::from_millis(2));
    m.show_bars(true);
    guest.release();
    Guest::claim(&m, 1).hello();
}
