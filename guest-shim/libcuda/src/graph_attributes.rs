//! Attributes of kernel nodes, and of the memory of graphs.

use std::sync::Arc;

use cudarc::driver::sys::{CUdevice, CUgraphNode};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, In, Out, exports};
use crate::graph::Work;
use crate::init::driver;
use crate::launch::{Attributes, Launch, check_attribute};

fn launch_of(node: CUgraphNode) -> Done<Launch> {
    match &*driver()?.work_of(node)? {
        Work::Kernel(launch) => Ok(launch.clone()),
        _ => Err(INVALID),
    }
}

fn set(node: CUgraphNode, attributes: Attributes) -> Done {
    let launch = launch_of(node)?;
    let work = Work::Kernel(Launch {
        attributes,
        ..launch
    });
    driver()?.set_work(node, work)
}

/// Bytes that allocation nodes hold now; the rest of a graph's memory is the program's own.
fn held(device: CUdevice) -> Done<u64> {
    let driver = driver()?;
    driver.device(device)?;
    Ok(driver.graph_memory_bytes())
}

exports! {
    /// An attribute of a kernel node; 0 where it was not set.
    fn cuGraphKernelNodeGetAttribute(node: CUgraphNode, attribute: u32, value: Out<[u64; 8]>) {
        let launch = launch_of(node)?;
        value.check()?;
        check_attribute(attribute, &[0x1_0000_0001, 1, 0, 0, 0, 0, 0, 0]).or_else(|status| match status {
            // It has one, which can only be 0.
            Status::ERROR_NOT_SUPPORTED => Ok(()),
            other => Err(other),
        })?;
        value.set(launch.attributes.get(&attribute).copied().unwrap_or_default())
    }

    /// Sets an attribute of a kernel node.
    fn cuGraphKernelNodeSetAttribute(node: CUgraphNode, attribute: u32, value: In<[u64; 8]>) {
        let value = value.get()?;
        check_attribute(attribute, &value)?;
        let mut attributes = launch_of(node)?.attributes;
        attributes.insert(attribute, value);
        set(node, attributes)
    }

    /// Gives a kernel node the attributes of another one, of the same context.
    fn cuGraphKernelNodeCopyAttributes(to: CUgraphNode, from: CUgraphNode) {
        let (target, source) = (launch_of(to)?, launch_of(from)?);
        if !Arc::ptr_eq(&target.function.ctx, &source.function.ctx) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        set(to, source.attributes)
    }

    /// Memory that graphs use and hold, in bytes (`CU_GRAPH_MEM_ATTR_…`). Highs are not kept apart.
    fn cuDeviceGetGraphMemAttribute(device: CUdevice, attribute: u32, value: Host) {
        if attribute > 3 || value.is_null() {
            return Err(INVALID);
        }
        value.out().set(held(device)?)
    }

    /// Resets a high (`CU_GRAPH_MEM_ATTR_…_HIGH`) to 0, the one value that it may be set to.
    fn cuDeviceSetGraphMemAttribute(device: CUdevice, attribute: u32, value: Host) {
        held(device)?;
        if !matches!(attribute, 1 | 3) || value.values::<u64>().get()? != 0 {
            return Err(INVALID);
        }
        Ok(())
    }

    /// Gives memory of graphs back that none uses: there is none, nodes hold theirs.
    fn cuDeviceGraphMemTrim(device: CUdevice) {
        held(device).map(drop)
    }
}
