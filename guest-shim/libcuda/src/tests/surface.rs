//! Calls that tell what a device, a stream or a node has.

use std::ptr::null_mut;

use cudarc::driver::sys::{CUgraph, CUgraphNode, CUgraphNodeParams};

use super::{INVALID_HANDLE, INVALID_VALUE, SUCCESS, context, module, turn};
use crate::abi::{Host, In, Out, Text};
use crate::ctx_events::{cuCtxRecordEvent, cuCtxWaitEvent};
use crate::event::{cuEventCreate, cuEventRecord};
use crate::graph_nodes::{cuGraphAddChildGraphNode, cuGraphAddEmptyNode, cuGraphAddMemsetNode};
use crate::graph_objects::cuGraphCreate;
use crate::graph_params::cuGraphNodeGetParams;
use crate::library::{cuLibraryGetManaged, cuLibraryGetUnifiedFunction};
use crate::peer::{cuDeviceGetHostAtomicCapabilities, cuDeviceGetP2PAtomicCapabilities};
use crate::stream::{cuStreamCreate, cuStreamGetGreenCtx};

const INVALID_CONTEXT: u32 = 201;
const INVALID_DEVICE: u32 = 101;

#[test]
fn links_do_no_atomics() {
    let _turn = turn();
    let mut found = [9u32; 2];
    let all = [0u32, 12];
    let ask = |out: Out<u32>, of: &[u32], count, device| {
        cuDeviceGetHostAtomicCapabilities(out, In::to(of), count, device)
    };
    assert_eq!(ask(Out::to(&mut found[0]), &all, 0, 0), INVALID_VALUE);
    assert_eq!(ask(Out::null(), &all, 2, 0), INVALID_VALUE);
    assert_eq!(ask(Out::to(&mut found[0]), &[0, 13], 2, 0), INVALID_VALUE);
    assert_eq!(ask(Out::to(&mut found[0]), &all, 2, 9), INVALID_DEVICE);
    assert_eq!(found, [9, 9]);
    let place = Host::to(&mut found).out();
    assert_eq!(ask(place, &all, 2, 0), SUCCESS);
    assert_eq!(found, [0, 0]);
    let one = cuDeviceGetP2PAtomicCapabilities(place, In::to(&all), 2, 0, 0);
    assert_eq!(one, INVALID_DEVICE);
}

#[test]
fn streams_have_no_green_context() {
    let _turn = turn();
    let _ctx = context();
    let (mut stream, mut green) = (null_mut(), 7);
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 0), SUCCESS);
    assert_eq!(cuStreamGetGreenCtx(stream, Out::to(&mut green)), SUCCESS);
    assert_eq!(green, 0);
    assert_eq!(cuStreamGetGreenCtx(stream, Out::null()), INVALID_VALUE);
    // A module is no stream.
    let other = module().cast();
    assert_eq!(
        cuStreamGetGreenCtx(other, Out::to(&mut green)),
        INVALID_HANDLE
    );
}

#[test]
fn libraries_must_be_there() {
    let _turn = turn();
    let _ctx = context();
    let (mut at, mut function) = (0, null_mut());
    let name = Text::to(c"x");
    assert_eq!(
        cuLibraryGetManaged(Out::to(&mut at), Out::null(), null_mut(), name),
        INVALID_HANDLE
    );
    assert_eq!(
        cuLibraryGetUnifiedFunction(Out::to(&mut function), null_mut(), name),
        INVALID_HANDLE
    );
}

fn params(node: CUgraphNode) -> (u32, Vec<u64>) {
    let mut words = vec![u64::MAX; size_of::<CUgraphNodeParams>() / 8];
    assert_eq!(cuGraphNodeGetParams(node, Host::to(&mut words)), SUCCESS);
    (words[0] as u32, words[2..].to_vec())
}

#[test]
fn nodes_tell_what_they_do() {
    let _turn = turn();
    let ctx = context();
    let (mut graph, mut inner): (CUgraph, CUgraph) = (null_mut(), null_mut());
    assert_eq!(cuGraphCreate(Out::to(&mut graph), 0), SUCCESS);
    assert_eq!(cuGraphCreate(Out::to(&mut inner), 0), SUCCESS);
    let mut node = null_mut();
    let none = In::null();
    assert_eq!(
        cuGraphAddEmptyNode(Out::to(&mut node), graph, none, 0),
        SUCCESS
    );
    let (kind, rest) = params(node);
    assert_eq!(kind, 5);
    assert!(rest.iter().all(|word| *word == 0));
    assert_eq!(
        cuGraphAddChildGraphNode(Out::to(&mut node), graph, none, 0, inner),
        SUCCESS
    );
    let (kind, rest) = params(node);
    assert_eq!(kind, 4);
    assert!(
        rest[0] != 0 && rest[0] != inner as u64,
        "the node has a copy"
    );
    // dst, pitch, value and size of elements, width, height.
    let at = super::alloc(64);
    let mut set = [at, 0, 7 | 1 << 32, 64, 1];
    assert_eq!(
        cuGraphAddMemsetNode(
            Out::to(&mut node),
            graph,
            none,
            0,
            Host::to(&mut set),
            ctx.0
        ),
        SUCCESS
    );
    let (kind, rest) = params(node);
    assert_eq!(kind, 2);
    assert_eq!(
        (rest[0], rest[2], rest[3], rest[5]),
        (at, 7 | 1 << 32, 64, ctx.0 as u64)
    );
    assert_eq!(cuGraphNodeGetParams(node, Host::null()), INVALID_VALUE);
}

#[test]
fn events_of_contexts_go_over_all_streams() {
    let turn = turn();
    let ctx = context();
    let (mut stream, mut event) = (null_mut(), null_mut());
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 1), SUCCESS);
    assert_eq!(cuEventCreate(Out::to(&mut event), 0), SUCCESS);
    let before = (turn.count("cuEventRecord"), turn.count("cuStreamWaitEvent"));
    // Not recorded: nothing to wait for.
    assert_eq!(cuCtxWaitEvent(ctx.0, event), SUCCESS);
    assert_eq!(turn.count("cuStreamWaitEvent"), before.1);
    assert_eq!(cuCtxRecordEvent(ctx.0, event), SUCCESS);
    // One for the default stream, one for the other, and the event itself.
    assert_eq!(turn.count("cuEventRecord"), before.0 + 3);
    assert_eq!(cuCtxWaitEvent(ctx.0, event), SUCCESS);
    let held = turn.count("cuStreamWaitEvent");
    assert_eq!(cuStreamCreate(Out::to(&mut stream), 1), SUCCESS);
    assert_eq!(
        turn.count("cuStreamWaitEvent"),
        held + 1,
        "a later stream waits, too"
    );
    assert_eq!(cuCtxRecordEvent(null_mut(), event), INVALID_CONTEXT);
    assert_eq!(cuCtxRecordEvent(ctx.0, null_mut()), INVALID_HANDLE);
    let other = context();
    assert_eq!(cuCtxRecordEvent(other.0, event), INVALID_HANDLE);
    assert_eq!(cuEventRecord(event, null_mut()), INVALID_HANDLE);
}
