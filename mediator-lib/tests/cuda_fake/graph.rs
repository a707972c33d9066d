//! Graphs, functions of the guest's program and words of memory.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DevPtr, EventId, GraphChange, GraphId, GraphNode, MemOp, StreamId, request,
};

use crate::harness::{
    Channel, DEFAULT, FakeDriver, OpenDriver, eventually, fill_params, list, node,
};

const GRAPH: GraphId = GraphId(3);
const INVALID: Status = Status::ERROR_INVALID_VALUE;

fn set(to: DevPtr, value: u32, after: &[u32]) -> GraphNode {
    node(|w| request::memset(w, to, 4, value, 4, DEFAULT), after)
}

fn words(c: &mut Channel, ctx: CtxId, from: DevPtr) -> Vec<u32> {
    let bytes = c.read(ctx, from, 16);
    bytes
        .chunks(4)
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        .collect()
}

#[test]
fn a_graph_is_the_drivers_own_and_is_updated_in_place() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    let module = c.module(ctx);
    let fill = c.kernel(ctx, module, "fill").function;
    let to = c.session.mem_alloc(ctx, 64).expect("memory");
    let fill_node = |value, after: &[u32]| {
        let params = fill_params(to, value, 2);
        node(
            |w| {
                let params: &'static [u8] = Box::leak(params.into_boxed_slice());
                request::launch_kernel(w, fill, [1; 3], [1; 3], 0, DEFAULT, params)
            },
            after,
        )
    };
    let nodes = [
        set(to, 7, &[]),
        GraphNode {
            after: vec![0],
            ..GraphNode::default()
        },
        fill_node(5, &[1]),
    ];
    let s = &mut c.session;
    s.graph_instantiate(ctx, GRAPH, &list(&nodes))
        .expect("a graph");
    let launches = driver.count("cuLaunchKernel");
    s.graph_launch(ctx, GRAPH, DEFAULT).expect("launched");
    s.graph_launch(ctx, GRAPH, DEFAULT).expect("launched");
    assert_eq!(driver.count("cuGraphLaunch"), 2);
    assert_eq!(driver.count("cuLaunchKernel"), launches, "captured once");
    assert_eq!(words(&mut c, ctx, to), [5, 5, 7, 7]);

    let changed = fill_node(9, &[]);
    let change = |node, from: &GraphNode| GraphChange {
        node,
        opcode: from.opcode,
        request: from.request.clone(),
    };
    let s = &mut c.session;
    s.graph_update(ctx, GRAPH, &list(&[change(2, &changed)]))
        .expect("updated");
    s.graph_launch(ctx, GRAPH, DEFAULT).expect("launched");
    assert_eq!(driver.count("cuGraphExecUpdate_v2"), 1);
    assert_eq!(driver.count("cuGraphInstantiateWithFlags"), 1);
    assert_eq!(words(&mut c, ctx, to), [9, 9, 7, 7]);

    // A node that is switched off: the driver refuses the update, and the graph is made anew.
    let off = GraphNode::default();
    let s = &mut c.session;
    s.graph_update(ctx, GRAPH, &list(&[change(2, &off)]))
        .expect("updated");
    s.graph_launch(ctx, GRAPH, DEFAULT).expect("launched");
    assert_eq!(driver.count("cuGraphInstantiateWithFlags"), 2);
    assert_eq!(words(&mut c, ctx, to), [7, 7, 7, 7]);

    let s = &mut c.session;
    s.graph_destroy(ctx, GRAPH).expect("destroyed");
    assert_eq!(
        s.graph_launch(ctx, GRAPH, DEFAULT),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn graphs_that_are_none_leave_nothing() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    let to = c.session.mem_alloc(ctx, 64).expect("memory");
    let bad = [
        vec![set(to, 1, &[0])],
        vec![set(to, 1, &[]), set(to, 1, &[2])],
        vec![set(DevPtr(8), 1, &[])],
        vec![node(|w| request::mem_free(w, to), &[])],
        vec![GraphNode {
            opcode: 0xffff_ffff,
            ..GraphNode::default()
        }],
        vec![node(|w| request::stream_create(w, StreamId(4), 0, 0), &[])],
    ];
    for nodes in bad {
        let made = c.session.graph_instantiate(ctx, GRAPH, &list(&nodes));
        assert_eq!(made, Err(INVALID), "{nodes:?}");
    }
    assert_eq!(
        c.session.graph_instantiate(ctx, GRAPH, &[1, 2]),
        Err(INVALID)
    );
    // Nothing is left of the captures.
    c.session.memset(ctx, to, 4, 3, 4, DEFAULT).expect("set");
    assert_eq!(words(&mut c, ctx, to), [3; 4]);
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn events_of_graphs_are_recorded_at_each_launch() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    let s = &mut c.session;
    s.event_create(ctx, EventId(1), 0).expect("an event");
    let nodes = [
        node(|w| request::event_record(w, EventId(1), DEFAULT, 1), &[]),
        node(
            |w| request::stream_wait_event(w, DEFAULT, EventId(1), 1),
            &[0],
        ),
    ];
    s.graph_instantiate(ctx, GRAPH, &list(&nodes))
        .expect("a graph");
    s.graph_launch(ctx, GRAPH, DEFAULT).expect("launched");
    s.event_synchronize(ctx, EventId(1)).expect("recorded");
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn a_stream_waits_for_the_guests_function() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    let to = c.session.mem_alloc(ctx, 64).expect("memory");
    let s = &mut c.session;
    s.stream_create(ctx, StreamId(1), 1, 0).expect("a stream");
    s.launch_host_func(ctx, StreamId(1), 77).expect("queued");
    s.memset(ctx, to, 4, 3, 4, StreamId(1)).expect("queued");
    let mut turn = None;
    eventually("the function's turn", || {
        turn = turn.or_else(|| c.callbacks.next());
        turn.is_some()
    });
    assert_eq!(
        turn.map(|t| (t.number, t.status)),
        Some((77, Status::SUCCESS))
    );
    assert_eq!(
        c.session.stream_query(ctx, StreamId(1)),
        Err(Status::ERROR_NOT_READY)
    );
    c.callbacks.done(1);
    c.session
        .stream_synchronize(ctx, StreamId(1))
        .expect("done");
    assert_eq!(words(&mut c, ctx, to), [3; 4]);

    // One that the guest never calls does not keep the session.
    c.session
        .launch_host_func(ctx, StreamId(1), 78)
        .expect("queued");
    c.cancel.set();
    drop(c);
    eventually("all is freed", || {
        driver.live() == "live contexts=0 streams=0 events=0 modules=0 memory=0 pins=0 graphs=0"
    });
}

#[test]
fn words_are_written_and_waited_for() {
    let driver = FakeDriver::new("");
    let backend = driver.open();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    let to = c.session.mem_alloc(ctx, 64).expect("memory");
    let op = |kind, offset, value| MemOp {
        kind,
        address: DevPtr(to.0 + offset),
        value,
        flags: 0,
    };
    let s = &mut c.session;
    for stream in [1, 2] {
        s.stream_create(ctx, StreamId(stream), 1, 0)
            .expect("a stream");
    }
    s.memset(ctx, to, 4, 0, 16, DEFAULT).expect("cleared");
    s.stream_batch_mem_op(ctx, StreamId(1), vec![op(4, 8, 5), op(2, 0, 9)])
        .expect("queued");
    assert_eq!(
        s.stream_query(ctx, StreamId(1)),
        Err(Status::ERROR_NOT_READY)
    );
    s.stream_batch_mem_op(ctx, StreamId(2), vec![op(5, 8, 6)])
        .expect("queued");
    s.stream_synchronize(ctx, StreamId(1)).expect("done");
    assert_eq!(words(&mut c, ctx, to), [9, 0, 6, 0]);
    let outside = c
        .session
        .stream_batch_mem_op(ctx, DEFAULT, vec![op(2, 64, 1)]);
    assert_eq!(outside, Err(INVALID));
    drop(c);
    driver.assert_all_freed();
}
