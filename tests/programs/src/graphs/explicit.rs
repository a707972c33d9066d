//! Graphs built by hand.

use std::ffi::{CString, c_void};
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use super::raw::{Bench, Event, Exec, Graph, N, Stream, code, expect};
use crate::call;
use crate::cuda::sys;

unsafe extern "C" fn count(counter: *mut c_void) {
    // SAFETY: every test passes a counter that lives until the last call.
    unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

type Node = sys::CUgraphNode;

/// A copy within the device, all else 0.
fn flat_copy() -> sys::CUDA_MEMCPY3D {
    let device = sys::CUmemorytype_enum::CU_MEMORYTYPE_DEVICE;
    let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    let at = copy.as_mut_ptr();
    // SAFETY: all zeros is a value of each field but the two that are set.
    unsafe {
        (&raw mut (*at).srcMemoryType).write(device);
        (&raw mut (*at).dstMemoryType).write(device);
        copy.assume_init()
    }
}

fn kernel(graph: &Graph, after: &[Node], b: &Bench, i: usize, k: u32) -> Result<Node> {
    let (mut p, mut n, mut k) = (b.at(i), N, k);
    let mut params: [*mut c_void; 3] = [
        (&raw mut p).cast(),
        (&raw mut n).cast(),
        (&raw mut k).cast(),
    ];
    let mut node = ptr::null_mut();
    // SAFETY: all zeros is a value of the struct; a live kernel with these parameters.
    unsafe {
        let mut of: sys::CUDA_KERNEL_NODE_PARAMS = zeroed();
        of.func = b.step;
        (of.gridDimX, of.gridDimY, of.gridDimZ) = (1, 1, 1);
        (of.blockDimX, of.blockDimY, of.blockDimZ) = (N, 1, 1);
        of.kernelParams = params.as_mut_ptr();
        call!(cuGraphAddKernelNode_v2(
            &mut node,
            graph.0,
            after.as_ptr(),
            after.len(),
            &of
        ))?;
    }
    Ok(node)
}

fn empty(graph: &Graph, after: &[Node]) -> Result<Node> {
    let mut node = ptr::null_mut();
    // SAFETY: a live graph and nodes of it.
    unsafe {
        call!(cuGraphAddEmptyNode(
            &mut node,
            graph.0,
            after.as_ptr(),
            after.len()
        ))
    }?;
    Ok(node)
}

fn run(exec: &Exec) -> Result<()> {
    let stream = Stream::new(0)?;
    exec.launch(stream.0)?;
    stream.wait()
}

fn ctx() -> Result<sys::CUcontext> {
    let mut ctx = ptr::null_mut();
    // SAFETY: one place to write.
    unsafe { call!(cuCtxGetCurrent(&mut ctx)) }?;
    Ok(ctx)
}

pub fn every_kind() -> Result<String> {
    let b = Bench::new(3)?;
    let graph = Graph::new()?;
    let event = Event::new()?;
    let counter = AtomicU32::new(0);
    let ctx = ctx()?;
    let bytes = N as usize * 4;
    let mut node: Node = ptr::null_mut();
    let (source, mut target) = ([11u32; N as usize], [0u32; N as usize]);
    // SAFETY: all zeros is a value of each struct; memory as long as it is said to be, alive until
    // the graph is done.
    unsafe {
        let mut set: sys::CUDA_MEMSET_NODE_PARAMS = zeroed();
        (set.dst, set.value, set.elementSize, set.width, set.height) =
            (b.at(0), 5, 4, N as usize, 1);
        call!(cuGraphAddMemsetNode(
            &mut node,
            graph.0,
            ptr::null(),
            0,
            &set,
            ctx
        ))?;
        let first = node;
        let second = kernel(&graph, &[first], &b, 0, 1)?;
        let copy = |from_host: Option<*const u32>, to_host: Option<*mut u32>, from, to| {
            let mut c = flat_copy();
            (c.WidthInBytes, c.Height, c.Depth) = (bytes, 1, 1);
            (c.srcDevice, c.dstDevice) = (from, to);
            if let Some(host) = from_host {
                c.srcMemoryType = sys::CUmemorytype_enum::CU_MEMORYTYPE_HOST;
                c.srcHost = host.cast();
            }
            if let Some(host) = to_host {
                c.dstMemoryType = sys::CUmemorytype_enum::CU_MEMORYTYPE_HOST;
                c.dstHost = host.cast();
            }
            c
        };
        let within = copy(None, None, b.at(0), b.at(1));
        call!(cuGraphAddMemcpyNode(
            &mut node, graph.0, &second, 1, &within, ctx
        ))?;
        let third = node;
        let inward = copy(Some(source.as_ptr()), None, 0, b.at(2));
        call!(cuGraphAddMemcpyNode(
            &mut node, graph.0, &third, 1, &inward, ctx
        ))?;
        let outward = copy(None, Some(target.as_mut_ptr()), b.at(1), 0);
        let fourth = node;
        call!(cuGraphAddMemcpyNode(
            &mut node, graph.0, &fourth, 1, &outward, ctx
        ))?;
        let mut host: sys::CUDA_HOST_NODE_PARAMS = zeroed();
        host.fn_ = Some(count);
        host.userData = ptr::from_ref(&counter).cast_mut().cast();
        let fifth = node;
        call!(cuGraphAddHostNode(&mut node, graph.0, &fifth, 1, &host))?;
        let sixth = empty(&graph, &[node])?;
        call!(cuGraphAddEventRecordNode(
            &mut node, graph.0, &sixth, 1, event.0
        ))?;
        let seventh = node;
        call!(cuGraphAddEventWaitNode(
            &mut node, graph.0, &seventh, 1, event.0
        ))?;
        let mut word: sys::CUstreamBatchMemOpParams = zeroed();
        word.writeValue.operation =
            sys::CUstreamBatchMemOpType_enum::CU_STREAM_MEM_OP_WRITE_VALUE_32;
        word.writeValue.address = b.at(2);
        word.writeValue.__bindgen_anon_1.value = 99;
        let mut words: sys::CUDA_BATCH_MEM_OP_NODE_PARAMS = zeroed();
        (words.ctx, words.count, words.paramArray) = (ctx, 1, &mut word);
        let eighth = node;
        call!(cuGraphAddBatchMemOpNode(
            &mut node, graph.0, &eighth, 1, &words
        ))?;
        let kinds: Vec<u32> = graph
            .nodes()?
            .iter()
            .map(|n| {
                let mut kind = sys::CUgraphNodeType_enum::CU_GRAPH_NODE_TYPE_EMPTY;
                code(&call!(cuGraphNodeGetType(*n, &mut kind))) * 1000 + kind as u32
            })
            .collect();
        ensure!(kinds == [2, 0, 1, 1, 1, 3, 5, 7, 6, 12], "{kinds:?}");
        let exec = graph.exec()?;
        for round in 1..=2 {
            run(&exec)?;
            call!(cuEventQuery(event.0))?;
            ensure!(target == [16; N as usize] && b.read(0)? == 16, "5 · 3 + 1");
            ensure!(
                counter.load(Ordering::SeqCst) == round,
                "called once per launch"
            );
            let mut found = [0u32; 2];
            call!(cuMemcpyDtoH_v2(found.as_mut_ptr().cast(), b.at(2), 8))?;
            ensure!(found == [99, 11], "{found:?}");
        }
        // Memory of the graph's own.
        let graph = Graph::new()?;
        let mut alloc: sys::CUDA_MEM_ALLOC_NODE_PARAMS = zeroed();
        alloc.poolProps.allocType = sys::CUmemAllocationType_enum::CU_MEM_ALLOCATION_TYPE_PINNED;
        alloc.poolProps.location.type_ = sys::CUmemLocationType_enum::CU_MEM_LOCATION_TYPE_DEVICE;
        alloc.bytesize = bytes;
        call!(cuGraphAddMemAllocNode(
            &mut node,
            graph.0,
            ptr::null(),
            0,
            &mut alloc
        ))?;
        ensure!(alloc.dptr != 0, "an address");
        set.dst = alloc.dptr;
        let made = node;
        call!(cuGraphAddMemsetNode(
            &mut node, graph.0, &made, 1, &set, ctx
        ))?;
        let out = copy(None, None, alloc.dptr, b.at(1));
        let filled = node;
        call!(cuGraphAddMemcpyNode(
            &mut node, graph.0, &filled, 1, &out, ctx
        ))?;
        let copied = node;
        call!(cuGraphAddMemFreeNode(
            &mut node, graph.0, &copied, 1, alloc.dptr
        ))?;
        let mut clone = ptr::null_mut();
        expect(
            "clone of a graph with memory",
            call!(cuGraphClone(&mut clone, graph.0)),
            801,
        )?;
        let exec = graph.exec()?;
        run(&exec)?;
        run(&exec)?;
        ensure!(b.read(1)? == 5, "through the graph's memory");
    }
    Ok("14 nodes of 11 kinds".to_owned())
}

pub fn edges() -> Result<String> {
    let b = Bench::new(1)?;
    let graph = Graph::new()?;
    // Added backwards: the order comes from the edges alone.
    let last = kernel(&graph, &[], &b, 0, 2)?;
    let first = kernel(&graph, &[], &b, 0, 1)?;
    // SAFETY: live nodes; places for as many as are said to be.
    unsafe {
        call!(cuGraphAddDependencies_v2(
            graph.0,
            &first,
            &last,
            ptr::null(),
            1
        ))?;
        expect(
            "twice",
            call!(cuGraphAddDependencies_v2(
                graph.0,
                &first,
                &last,
                ptr::null(),
                1
            )),
            1,
        )?;
        let exec = graph.exec()?;
        run(&exec)?;
        ensure!(b.read(0)? == 5, "first, then last");
        let (mut from, mut to, mut count) = ([ptr::null_mut(); 4], [ptr::null_mut(); 4], 4);
        call!(cuGraphGetEdges_v2(
            graph.0,
            from.as_mut_ptr(),
            to.as_mut_ptr(),
            ptr::null_mut(),
            &mut count
        ))?;
        ensure!(
            count == 1 && from[0] == first && to[0] == last && from[1].is_null(),
            "one edge, then null"
        );
        let mut list = [ptr::null_mut(); 2];
        let mut count = 2;
        call!(cuGraphNodeGetDependencies_v2(
            last,
            list.as_mut_ptr(),
            ptr::null_mut(),
            &mut count
        ))?;
        ensure!(count == 1 && list[0] == first, "it follows the first");
        call!(cuGraphNodeGetDependentNodes_v2(
            first,
            list.as_mut_ptr(),
            ptr::null_mut(),
            &mut count
        ))?;
        ensure!(count == 1 && list[0] == last, "the last follows it");
        // A cycle is found when it would have to be executed.
        call!(cuGraphAddDependencies_v2(
            graph.0,
            &last,
            &first,
            ptr::null(),
            1
        ))?;
        expect("a cycle", graph.exec(), 1)?;
        call!(cuGraphRemoveDependencies_v2(
            graph.0,
            &last,
            &first,
            ptr::null(),
            1
        ))?;
        expect(
            "no such edge",
            call!(cuGraphRemoveDependencies_v2(
                graph.0,
                &last,
                &first,
                ptr::null(),
                1
            )),
            1,
        )?;
        expect(
            "itself",
            call!(cuGraphAddDependencies_v2(
                graph.0,
                &last,
                &last,
                ptr::null(),
                1
            )),
            1,
        )?;
        call!(cuGraphDestroyNode(first))?;
        expect("a destroyed node", call!(cuGraphDestroyNode(first)), 1)?;
        ensure!(
            graph.edges()? == 0 && graph.nodes()?.len() == 1,
            "its edges went with it"
        );
        b.clear()?;
        run(&graph.exec()?)?;
        ensure!(b.read(0)? == 2, "the last alone");
    }
    Ok("added, asked, removed".to_owned())
}

pub fn clones() -> Result<String> {
    let b = Bench::new(1)?;
    let graph = Graph::new()?;
    let first = kernel(&graph, &[], &b, 0, 1)?;
    let second = kernel(&graph, &[first], &b, 0, 2)?;
    // SAFETY: live objects, places to write.
    unsafe {
        let mut clone = ptr::null_mut();
        call!(cuGraphClone(&mut clone, graph.0))?;
        let clone = Graph(clone);
        let mut found = ptr::null_mut();
        call!(cuGraphNodeFindInClone(&mut found, second, clone.0))?;
        ensure!(!found.is_null() && found != second, "another node");
        expect(
            "not a clone",
            call!(cuGraphNodeFindInClone(&mut found, second, graph.0)),
            1,
        )?;
        call!(cuGraphDestroyNode(found)).context("of the clone")?;
        ensure!(
            graph.nodes()?.len() == 2 && clone.nodes()?.len() == 1,
            "the original stays"
        );
        drop(graph);
        run(&clone.exec()?)?;
        ensure!(b.read(0)? == 1, "the first alone");
        expect(
            "a node of a destroyed graph",
            call!(cuGraphDestroyNode(first)),
            1,
        )?;
    }
    Ok("found in the clone".to_owned())
}

pub fn children() -> Result<String> {
    let b = Bench::new(1)?;
    let (inner, outer) = (Graph::new()?, Graph::new()?);
    let middle = kernel(&inner, &[], &b, 0, 2)?;
    kernel(&inner, &[middle], &b, 0, 3)?;
    let before = kernel(&outer, &[], &b, 0, 1)?;
    let mut child = ptr::null_mut();
    // SAFETY: live objects.
    unsafe {
        call!(cuGraphAddChildGraphNode(
            &mut child, outer.0, &before, 1, inner.0
        ))?;
        kernel(&outer, &[child], &b, 0, 4)?;
        let mut inside = ptr::null_mut();
        call!(cuGraphChildGraphNodeGetGraph(child, &mut inside))?;
        expect("an inner graph", call!(cuGraphDestroy(inside)), 1)?;
        // What is added to the original does not come into its copy.
        kernel(&inner, &[], &b, 0, 9)?;
        let exec = outer.exec()?;
        run(&exec)?;
        let expected = [1u32, 2, 3, 4].iter().fold(0, |w, k| w * 3 + k);
        ensure!(b.read(0)? == expected, "{} for {expected}", b.read(0)?);
        let other = Graph::new()?;
        let middle = kernel(&other, &[], &b, 0, 5)?;
        kernel(&other, &[middle], &b, 0, 6)?;
        call!(cuGraphExecChildGraphNodeSetParams(exec.0, child, other.0))?;
        b.clear()?;
        run(&exec)?;
        let expected = [1u32, 5, 6, 4].iter().fold(0, |w, k| w * 3 + k);
        ensure!(b.read(0)? == expected, "with another child");
        expect(
            "a child of another shape",
            call!(cuGraphExecChildGraphNodeSetParams(exec.0, child, inner.0)),
            1,
        )?;
        let mut own = ptr::null_mut();
        expect(
            "itself",
            call!(cuGraphAddChildGraphNode(
                &mut own,
                outer.0,
                ptr::null(),
                0,
                outer.0
            )),
            1,
        )?;
    }
    Ok("4 nodes in 2 graphs".to_owned())
}

/// Handles that are none, and arguments that cannot be.
pub fn bad() -> Result<String> {
    let b = Bench::new(1)?;
    let (graph, other) = (Graph::new()?, Graph::new()?);
    let node = kernel(&graph, &[], &b, 0, 1)?;
    let foreign = empty(&other, &[])?;
    let exec = graph.exec()?;
    let mut made = ptr::null_mut();
    let mut rows = 0;
    let mut row = |what: &str, found: Result<(), crate::cuda::Failed>| {
        rows += 1;
        expect(what, found, 1)
    };
    // SAFETY: places to write; handles are checked, which is what is tested.
    unsafe {
        row("flags", call!(cuGraphCreate(&mut ptr::null_mut(), 1)))?;
        row("nowhere", call!(cuGraphCreate(ptr::null_mut(), 0)))?;
        row("no graph", call!(cuGraphDestroy(ptr::null_mut())))?;
        row(
            "a node for a graph",
            call!(cuGraphDestroy(node as sys::CUgraph)),
        )?;
        row(
            "a graph for a node",
            call!(cuGraphDestroyNode(graph.0 as Node)),
        )?;
        row(
            "no exec",
            call!(cuGraphLaunch(ptr::null_mut(), ptr::null_mut())),
        )?;
        row(
            "foreign dependency",
            call!(cuGraphAddEmptyNode(&mut made, graph.0, &foreign, 1)),
        )?;
        row(
            "no list",
            call!(cuGraphAddEmptyNode(&mut made, graph.0, ptr::null(), 1)),
        )?;
        row(
            "the same twice",
            call!(cuGraphAddEmptyNode(
                &mut made,
                graph.0,
                [node, node].as_ptr(),
                2
            )),
        )?;
        row(
            "foreign edge",
            call!(cuGraphAddDependencies_v2(
                graph.0,
                &node,
                &foreign,
                ptr::null(),
                1
            )),
        )?;
        row(
            "foreign node of an exec",
            call!(cuGraphNodeSetEnabled(exec.0, foreign, 1)),
        )?;
        row(
            "instantiate flags",
            call!(cuGraphInstantiateWithFlags(
                &mut ptr::null_mut(),
                graph.0,
                1 << 20
            )),
        )?;
        let mut set: sys::CUDA_MEMSET_NODE_PARAMS = zeroed();
        (set.dst, set.elementSize, set.width, set.height) = (b.at(0), 3, 4, 1);
        row(
            "elements of 3 bytes",
            call!(cuGraphAddMemsetNode(
                &mut made,
                graph.0,
                ptr::null(),
                0,
                &set,
                ctx()?
            )),
        )?;
        (set.elementSize, set.width) = (4, N as usize + 1);
        row(
            "too long",
            call!(cuGraphAddMemsetNode(
                &mut made,
                graph.0,
                ptr::null(),
                0,
                &set,
                ctx()?
            )),
        )?;
        let mut copy = flat_copy();
        (copy.WidthInBytes, copy.Height, copy.Depth) = (16, 1, 1);
        (copy.srcDevice, copy.dstDevice) = (b.at(0), 0);
        row(
            "to nowhere",
            call!(cuGraphAddMemcpyNode(
                &mut made,
                graph.0,
                ptr::null(),
                0,
                &copy,
                ctx()?
            )),
        )?;
        let host: sys::CUDA_HOST_NODE_PARAMS = zeroed();
        row(
            "no function",
            call!(cuGraphAddHostNode(
                &mut made,
                graph.0,
                ptr::null(),
                0,
                &host
            )),
        )?;
        let event: sys::CUevent = 1usize as sys::CUevent;
        expect(
            "no event",
            call!(cuGraphAddEventRecordNode(
                &mut made,
                graph.0,
                ptr::null(),
                0,
                event
            )),
            400,
        )?;
        let exec = exec.0;
        call!(cuGraphExecDestroy(exec))?;
        row(
            "a destroyed exec",
            call!(cuGraphLaunch(exec, ptr::null_mut())),
        )?;
        row("destroyed twice", call!(cuGraphExecDestroy(exec)))?;
    }
    std::mem::forget(exec);
    Ok(format!("{rows} rows"))
}

pub fn user_objects() -> Result<String> {
    let destroyed = AtomicU32::new(0);
    let data = ptr::from_ref(&destroyed).cast_mut().cast();
    // SAFETY: the counter lives longer than the objects.
    unsafe {
        let mut object = ptr::null_mut();
        expect(
            "flags",
            call!(cuUserObjectCreate(&mut object, data, Some(count), 1, 0)),
            1,
        )?;
        call!(cuUserObjectCreate(&mut object, data, Some(count), 1, 1))?;
        let graph = Graph::new()?;
        call!(cuGraphRetainUserObject(graph.0, object, 1, 0))?;
        call!(cuUserObjectRelease(object, 1))?;
        ensure!(destroyed.load(Ordering::SeqCst) == 0, "the graph holds it");
        let mut clone = ptr::null_mut();
        call!(cuGraphClone(&mut clone, graph.0))?;
        drop(graph);
        ensure!(destroyed.load(Ordering::SeqCst) == 0, "the clone holds it");
        drop(Graph(clone));
        ensure!(destroyed.load(Ordering::SeqCst) == 1, "nobody holds it");
        call!(cuUserObjectCreate(&mut object, data, Some(count), 2, 1))?;
        let graph = Graph::new()?;
        call!(cuGraphRetainUserObject(graph.0, object, 1, 1))?;
        expect(
            "more than it holds",
            call!(cuGraphReleaseUserObject(graph.0, object, 2)),
            1,
        )?;
        call!(cuGraphReleaseUserObject(graph.0, object, 1))?;
        call!(cuUserObjectRelease(object, 1))?;
        ensure!(
            destroyed.load(Ordering::SeqCst) == 2,
            "moved, then released"
        );
    }
    Ok("2 objects".to_owned())
}

/// What nodes do is told as it was given.
pub fn params() -> Result<String> {
    let b = Bench::new(1)?;
    let graph = Graph::new()?;
    let node = kernel(&graph, &[], &b, 0, 77)?;
    let mut set_node = ptr::null_mut();
    // SAFETY: all zeros is a value of each struct; live objects.
    unsafe {
        let mut set: sys::CUDA_MEMSET_NODE_PARAMS = zeroed();
        (
            set.dst,
            set.pitch,
            set.value,
            set.elementSize,
            set.width,
            set.height,
        ) = (b.at(0), 16, 3, 2, 4, 2);
        call!(cuGraphAddMemsetNode(
            &mut set_node,
            graph.0,
            ptr::null(),
            0,
            &set,
            ctx()?
        ))?;
        let mut asked: sys::CUDA_MEMSET_NODE_PARAMS = zeroed();
        call!(cuGraphMemsetNodeGetParams(set_node, &mut asked))?;
        ensure!(
            (
                asked.dst,
                asked.pitch,
                asked.value,
                asked.elementSize,
                asked.width,
                asked.height
            ) == (b.at(0), 16, 3, 2, 4, 2),
            "the set"
        );
        expect(
            "a kernel is no set",
            call!(cuGraphMemsetNodeGetParams(node, &mut asked)),
            1,
        )?;
        let mut of: sys::CUDA_KERNEL_NODE_PARAMS = zeroed();
        call!(cuGraphKernelNodeGetParams_v2(node, &mut of))?;
        let at = |i: usize| *of.kernelParams.add(i);
        ensure!(
            *at(0).cast::<u64>() == b.at(0)
                && *at(1).cast::<u32>() == N
                && *at(2).cast::<u32>() == 77,
            "the kernel"
        );
        let mut value: sys::CUkernelNodeAttrValue = zeroed();
        value.priority = -3;
        let priority = sys::CUlaunchAttributeID_enum::CU_LAUNCH_ATTRIBUTE_PRIORITY;
        call!(cuGraphKernelNodeSetAttribute(node, priority, &value))?;
        let second = kernel(&graph, &[], &b, 0, 1)?;
        call!(cuGraphKernelNodeCopyAttributes(second, node))?;
        value.priority = 0;
        call!(cuGraphKernelNodeGetAttribute(second, priority, &mut value))?;
        ensure!(value.priority == -3, "the priority");
    }
    Ok("kernel and set".to_owned())
}

pub fn dot() -> Result<String> {
    let b = Bench::new(1)?;
    let graph = Graph::new()?;
    let first = kernel(&graph, &[], &b, 0, 1)?;
    empty(&graph, &[first])?;
    let path = std::env::temp_dir().join(format!("graph-{}.dot", std::process::id()));
    let name = CString::new(path.to_string_lossy().into_owned())?;
    // SAFETY: a path that ends with a NUL.
    unsafe { call!(cuGraphDebugDotPrint(graph.0, name.as_ptr(), 0)) }?;
    let text = std::fs::read_to_string(&path)?;
    std::fs::remove_file(&path)?;
    ensure!(
        text.starts_with("digraph") && text.contains("step") && text.contains("->"),
        "{text}"
    );
    Ok(format!("{} bytes", text.len()))
}
