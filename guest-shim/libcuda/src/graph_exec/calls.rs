//! The calls that make, change and launch executable graphs.

use cudarc::driver::sys::{
    CUDA_GRAPH_INSTANTIATE_PARAMS_st as InstantiateParams, CUgraph, CUgraphExec,
    CUgraphExecUpdateResultInfo_st as UpdateInfo, CUgraphNode, CUstream,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::stubs;

use super::*;
use crate::abi::{Done, Host, INVALID, Out, exports};
use crate::graph::Work;
use crate::init::driver;

fn instantiate(out: Out<CUgraphExec>, graph: CUgraph, flags: u64) -> Done {
    let driver = driver()?;
    out.check()?;
    let graph = driver.graph(graph)?;
    out.set(driver.instantiate(&graph, flags)? as CUgraphExec)
}

fn set_enabled(exec: CUgraphExec, node: CUgraphNode, enabled: bool) -> Done {
    let driver = driver()?;
    let exec = driver.exec(exec)?;
    let mut nodes = exec.nodes();
    let index = nodes
        .iter()
        .position(|n| n.node == node as u64)
        .ok_or(INVALID)?;
    // "Currently only kernel, memset and memcpy nodes are supported."
    if !matches!(
        &*nodes[index].work,
        Work::Kernel(_) | Work::Set(_) | Work::Copy(_)
    ) {
        return Err(INVALID);
    }
    if nodes[index].enabled == enabled {
        return Ok(());
    }
    nodes[index].enabled = enabled;
    exec.send(driver, &mut nodes, &[index])
}

exports! {
    /// Makes an executable graph (ABI of CUDA 10.0).
    fn cuGraphInstantiate(out: Out<CUgraphExec>, graph: CUgraph, error: Out<CUgraphNode>, _log: Host, _bytes: usize) {
        error.set_if_given(std::ptr::null_mut());
        instantiate(out, graph, 0)
    }

    /// Makes an executable graph (ABI of CUDA 11.0).
    fn cuGraphInstantiate_v2(out: Out<CUgraphExec>, graph: CUgraph, error: Out<CUgraphNode>, _log: Host, _bytes: usize) {
        error.set_if_given(std::ptr::null_mut());
        instantiate(out, graph, 0)
    }

    /// Makes an executable graph.
    fn cuGraphInstantiateWithFlags(out: Out<CUgraphExec>, graph: CUgraph, flags: u64) {
        instantiate(out, graph, flags)
    }

    /// Makes an executable graph, and says what was wrong.
    fn cuGraphInstantiateWithParams | cuGraphInstantiateWithParams_ptsz [zero] (
        out: Out<CUgraphExec>, graph: CUgraph, params: Host,
    ) {
        use std::mem::offset_of;
        let flags: u64 = params.values().get()?;
        let stream: u64 = params.offset(offset_of!(InstantiateParams, hUploadStream)).values().get()?;
        let error = params.offset(offset_of!(InstantiateParams, hErrNode_out)).out::<u64>();
        let result = params.offset(offset_of!(InstantiateParams, result_out)).out::<u32>();
        error.set(0)?;
        let made = instantiate(out, graph, flags);
        // CUDA_GRAPH_INSTANTIATE_SUCCESS, _ERROR, _INVALID_STRUCTURE.
        result.set(match made {
            Ok(()) => 0,
            Err(INVALID) => 2,
            Err(_) => 1,
        })?;
        made?;
        if flags & UPLOAD != 0 {
            let driver = driver()?;
            let exec = driver.exec(out.get_at(0)?)?;
            let queue = driver.queue(stream as CUstream, zero)?;
            return stubs::graph_upload(driver.channel, queue.ctx_id, exec.id, queue.id);
        }
        Ok(())
    }

    /// Prepares an executable graph for its launch.
    fn cuGraphUpload | cuGraphUpload_ptsz [zero] (exec: CUgraphExec, stream: CUstream) {
        let driver = driver()?;
        let exec = driver.exec(exec)?;
        let queue = driver.queue(stream, zero)?;
        stubs::graph_upload(driver.channel, queue.ctx_id, exec.id, queue.id)
    }

    /// Launches an executable graph.
    fn cuGraphLaunch | cuGraphLaunch_ptsz [zero] (exec: CUgraphExec, stream: CUstream) {
        let driver = driver()?;
        driver.exec(exec)?.launch(driver, stream, zero)
    }

    /// Destroys an executable graph; its launches go on.
    fn cuGraphExecDestroy(exec: CUgraphExec) {
        let driver = driver()?;
        let exec = driver.graph_execs.remove(exec as u64).ok_or(INVALID)?;
        driver.release_functions(&exec.nodes());
        match exec.ctx.id() {
            Ok(ctx) => stubs::graph_destroy(driver.channel, ctx, exec.id),
            // It went with its context.
            Err(_) => Ok(()),
        }
    }

    /// Gives an executable graph the work of another graph's nodes (ABI of CUDA 10.2).
    fn cuGraphExecUpdate(exec: CUgraphExec, graph: CUgraph, error: Out<CUgraphNode>, result: Out<u32>) {
        let driver = driver()?;
        let (exec, graph) = (driver.exec(exec)?, driver.graph(graph)?);
        result.check()?;
        let (outcome, node, _) = exec.update(driver, &graph)?;
        error.set_if_given(node as CUgraphNode);
        result.set(outcome as u32)?;
        if outcome == Outcome::Success { Ok(()) } else { Err(Status::ERROR_GRAPH_EXEC_UPDATE_FAILURE) }
    }

    /// Gives an executable graph the work of another graph's nodes.
    fn cuGraphExecUpdate_v2(exec: CUgraphExec, graph: CUgraph, info: Host) {
        use std::mem::offset_of;
        let driver = driver()?;
        let (exec, graph) = (driver.exec(exec)?, driver.graph(graph)?);
        if info.is_null() {
            return Err(INVALID);
        }
        let (outcome, node, from) = exec.update(driver, &graph)?;
        info.offset(offset_of!(UpdateInfo, result)).out::<u32>().set(outcome as u32)?;
        info.offset(offset_of!(UpdateInfo, errorNode)).out::<u64>().set(node)?;
        info.offset(offset_of!(UpdateInfo, errorFromNode)).out::<u64>().set(from)?;
        if outcome == Outcome::Success { Ok(()) } else { Err(Status::ERROR_GRAPH_EXEC_UPDATE_FAILURE) }
    }

    /// The flags of an executable graph; UPLOAD is none that stays.
    fn cuGraphExecGetFlags(exec: CUgraphExec, flags: Out<u64>) {
        let exec = driver()?.exec(exec)?;
        flags.check()?;
        flags.set(exec.flags & !UPLOAD)
    }

    /// A number that no other graph has.
    fn cuGraphExecGetId(exec: CUgraphExec, id: Out<u32>) {
        let exec = driver()?.exec(exec)?;
        id.check()?;
        id.set(exec.unique as u32)
    }

    /// Switches a node of an executable graph on or off.
    fn cuGraphNodeSetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: u32) {
        set_enabled(exec, node, enabled != 0)
    }

    /// Whether a node of an executable graph is on.
    fn cuGraphNodeGetEnabled(exec: CUgraphExec, node: CUgraphNode, enabled: Out<u32>) {
        let exec = driver()?.exec(exec)?;
        enabled.check()?;
        let nodes = exec.nodes();
        let node = nodes.iter().find(|n| n.node == node as u64).ok_or(INVALID)?;
        if !matches!(&*node.work, Work::Kernel(_) | Work::Set(_) | Work::Copy(_)) {
            return Err(INVALID);
        }
        enabled.set(node.enabled.into())
    }
}
