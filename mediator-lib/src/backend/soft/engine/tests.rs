//! What the engine promises about the order of work and its bounds.

use vgpu_soft_gpu::AddressSpace;

use super::*;

fn engine() -> (Engine, Arc<Context>) {
    let waker = Arc::<Waker>::default();
    let engine = Engine::new(
        Gpu::new(1).expect("threads"),
        &Cancel::default(),
        Arc::clone(&waker),
        Arc::new(Callbacks::new(waker)),
        "test".to_owned(),
    );
    let space = AddressSpace::new(1 << 20).expect("address space");
    (
        engine.expect("a thread"),
        Context::new(space, Arc::default()),
    )
}

fn op(ctx: &Arc<Context>, work: Work) -> Op {
    Op {
        ctx: Arc::clone(ctx),
        work,
    }
}

#[test]
fn the_queue_takes_its_bytes_and_no_more() {
    let mut state = State::default();
    assert!(!state.is_full());
    state.bytes = MAX_QUEUED_BYTES - 1;
    assert!(!state.is_full());
    state.bytes = MAX_QUEUED_BYTES;
    assert!(state.is_full());
}

#[test]
fn what_waits_holds_up_only_what_follows_it() {
    let (engine, ctx) = engine();
    let call = |number| op(&ctx, Work::HostFn { number });
    let first = engine.submit(call(5), &[], 0, false);
    let after = engine.submit(op(&ctx, Work::Nothing), &[first], 0, true);
    let beside = engine.submit(op(&ctx, Work::Nothing), &[], 0, false);
    assert_eq!(engine.wait(beside), Ok(()));
    assert!(!engine.is_done(first) && !engine.is_done(after));
    let callbacks = &engine.shared.callbacks;
    while callbacks.next().is_none() {
        std::thread::yield_now();
    }
    assert!(!engine.is_done(after));
    callbacks.done(1);
    assert_eq!(engine.wait(after), Ok(()));
    assert!(engine.is_done(first));
}

#[test]
fn a_chain_ends_where_something_else_is_ready_or_an_operation_does_not_end_by_itself() {
    let (_engine, ctx) = engine();
    let add = |state: &mut State, number: u64, before: Option<u64>, work: Work| {
        state.submitted = number;
        if let Some(earlier) = before.and_then(|n| state.pending.get_mut(&n)) {
            earlier.after.push(number);
        }
        let node = Node {
            op: Some(op(&ctx, work)),
            chained: false,
            before: u32::from(before.is_some()),
            after: After::default(),
            priority: 0,
            bytes: 0,
        };
        state.pending.insert(number, node);
        if before.is_none() {
            state.push_ready(0, number);
        }
    };
    let numbers = |state: &mut State, longest| -> Vec<u64> {
        let mut chain = Chain::new();
        state.take(&mut chain, longest);
        chain.iter().map(|(number, _)| *number).collect()
    };
    // 1, 2, 3 and a function, 5 after it.
    let line = |state: &mut State| {
        add(state, 1, None, Work::Nothing);
        add(state, 2, Some(1), Work::Nothing);
        add(state, 3, Some(2), Work::Nothing);
        add(state, 4, Some(3), Work::HostFn { number: 0 });
        add(state, 5, Some(4), Work::Nothing);
    };
    let mut state = State::default();
    line(&mut state);
    assert_eq!(numbers(&mut state, 8), [1, 2, 3]);
    assert!(state.pending[&3].chained && !state.pending[&4].chained);
    let mut state = State::default();
    line(&mut state);
    assert_eq!(numbers(&mut state, 2), [1, 2]);
    let mut state = State::default();
    line(&mut state);
    add(&mut state, 6, None, Work::Nothing);
    assert_eq!(numbers(&mut state, 8), [1], "6 is ready, too");
    let mut state = State::default();
    line(&mut state);
    add(&mut state, 6, Some(2), Work::Nothing);
    assert_eq!(numbers(&mut state, 8), [1, 2], "6 follows 2, too");
}

#[test]
fn what_is_done_in_a_chain_is_done_for_who_asks() {
    let (engine, ctx) = engine();
    engine.shared.waker.set_hook(|| {});
    let mut last = engine.submit(op(&ctx, Work::HostFn { number: 1 }), &[], 0, false);
    let first = last + 1;
    for _ in 0..200 {
        last = engine.submit(op(&ctx, Work::Nothing), &[last], 0, false);
    }
    let callbacks = &engine.shared.callbacks;
    while callbacks.next().is_none() {
        std::thread::yield_now();
    }
    assert!((first..=last).all(|n| !engine.is_done(n)));
    callbacks.done(1);
    let mut seen = first;
    while seen <= last {
        // Once done, for ever done, and all before it.
        if engine.is_done(seen) {
            assert!((first..seen).all(|n| engine.is_done(n)));
            seen += 1;
        }
    }
}

#[test]
fn the_smaller_number_of_priority_goes_first() {
    let mut state = State::default();
    for (priority, number) in [(0, 1), (-5, 3), (-5, 2), (0, 4)] {
        state.push_ready(priority, number);
    }
    let order: Vec<u64> =
        std::iter::from_fn(|| state.ready.pop().map(|Ready(next)| next.0.1)).collect();
    assert_eq!(order, [2, 3, 1, 4]);
}

#[test]
fn what_is_run_beside_the_queue_has_its_place_among_what_is_queued() {
    let (engine, ctx) = engine();
    assert!(engine.is_idle());
    let (first, left) = engine.run_here(&ctx, 0, |_, _| None);
    assert!(!left && engine.is_done(first) && engine.is_idle());
    let (second, left) = engine.run_here(&ctx, 0, |_, _| Some(Work::HostFn { number: 1 }));
    assert!(left && second > first);
    assert!(!engine.is_done(second) && !engine.is_idle());
    let callbacks = &engine.shared.callbacks;
    while callbacks.next().is_none() {
        std::thread::yield_now();
    }
    callbacks.done(1);
    assert_eq!(engine.wait(second), Ok(()));
    let queued = engine.submit(op(&ctx, Work::Nothing), &[second], 0, false);
    assert_eq!(engine.wait(queued), Ok(()));
    assert!(engine.is_idle());
    let (last, _) = engine.run_here(&ctx, 0, |_, _| None);
    assert!(last > queued && engine.is_done(last) && engine.is_idle());
    end(&engine.shared);
    assert!(!engine.is_idle(), "nothing is begun any more");
}
