//! Memory that graphs allocate and free. An allocation has its address from the node's making on
//! ("the address is fixed"); its memory is held as long as the node.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use vgpu_protocol::calls::{DevPtr, stubs};

use crate::abi::{Done, INVALID};
use crate::ctx::Ctx;
use crate::init::{Driver, driver};

/// The memory of an allocation node.
#[derive(Debug)]
pub struct GraphMemory {
    /// Its address.
    pub address: u64,
    /// Bytes.
    pub bytes: u64,
    ctx: Arc<Ctx>,
    /// A launch has allocated it, and nothing has freed it since.
    pub allocated: AtomicBool,
}

impl Driver {
    /// Memory for an allocation node.
    pub fn graph_memory(&self, ctx: &Arc<Ctx>, bytes: u64) -> Done<Arc<GraphMemory>> {
        let base = stubs::mem_alloc(self.channel, ctx.id()?, bytes)?;
        self.add_alloc(base, bytes, Arc::clone(ctx));
        self.graph_bytes.fetch_add(bytes, Ordering::Relaxed);
        let memory = Arc::new(GraphMemory {
            address: base.0,
            bytes,
            ctx: Arc::clone(ctx),
            allocated: AtomicBool::new(false),
        });
        let mut all = self
            .graph_memories
            .lock()
            .unwrap_or_else(|e| e.into_inner());
        all.insert(base.0, Arc::downgrade(&memory));
        Ok(memory)
    }

    /// Frees what an allocation node has allocated, outside of a graph; false where the address is no
    /// such memory's.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE` for one that no launch has allocated, or that was freed since.
    pub fn free_graph_memory(&self, address: u64) -> Done<bool> {
        let memory = {
            let all = self
                .graph_memories
                .lock()
                .unwrap_or_else(|e| e.into_inner());
            all.get(&address).and_then(Weak::upgrade)
        };
        match memory {
            None => Ok(false),
            // Work that uses it was submitted before; the node keeps the memory.
            Some(memory) if memory.allocated.swap(false, Ordering::AcqRel) => Ok(true),
            Some(_) => Err(INVALID),
        }
    }
}

impl Driver {
    /// Bytes that allocation nodes hold.
    pub fn graph_memory_bytes(&self) -> u64 {
        self.graph_bytes.load(Ordering::Relaxed)
    }
}

impl GraphMemory {
    /// Whether a launch has allocated it.
    pub fn is_allocated(&self) -> bool {
        self.allocated.load(Ordering::Acquire)
    }
}

impl Drop for GraphMemory {
    fn drop(&mut self) {
        let Ok(driver) = driver() else { return };
        driver
            .graph_memories
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .remove(&self.address);
        driver.graph_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        let Ok(ctx) = self.ctx.id() else { return };
        if driver.allocs_mut().remove(&self.address).is_some() {
            // Its node is gone: nobody is left to be told.
            let _ = stubs::mem_free(driver.channel, ctx, DevPtr(self.address));
        }
    }
}
