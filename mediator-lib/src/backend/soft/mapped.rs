//! Physical memory of a session and where it is mapped (virtual memory management).

use std::collections::BTreeMap;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::PhysicalId;
use vgpu_protocol::limits::MAX_PHYSICAL;
use vgpu_soft_gpu::Unified;
use vgpu_soft_gpu::unified::{MapError, Physical};

use crate::budget::Share;
use crate::handles::Table;

/// What a session has beside the memory of its contexts.
pub struct Mapped {
    /// The memory itself.
    pub unified: Arc<Unified>,
    /// Physical memory by handle.
    pub physical: Table<PhysicalId, PhysicalEntry>,
    /// Shares of reserved addresses and of the mapping that each is, by first address.
    pub reservations: BTreeMap<u64, [Share; 2]>,
    /// What is mapped, by first address.
    pub mappings: BTreeMap<u64, Mapping>,
}

/// One piece of physical memory.
pub struct PhysicalEntry {
    pub memory: Physical,
    /// Its share of the VM's memory.
    pub _share: Share,
    /// Mappings of it.
    pub mapped: usize,
    /// The guest has let go of it.
    pub released: bool,
}

/// One mapping.
pub struct Mapping {
    pub physical: PhysicalId,
    pub _share: Share,
}

impl Default for Mapped {
    fn default() -> Mapped {
        Mapped {
            unified: Arc::default(),
            physical: Table::new(MAX_PHYSICAL),
            reservations: BTreeMap::new(),
            mappings: BTreeMap::new(),
        }
    }
}

impl Mapped {
    /// The physical memory of a handle that the guest still holds.
    pub fn held(&mut self, id: PhysicalId) -> Result<&mut PhysicalEntry, Status> {
        let entry = self.physical.get_mut(id)?;
        if entry.released {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(entry)
    }

    /// Frees physical memory that nobody holds and nothing maps.
    pub fn reap(&mut self, id: PhysicalId) {
        let unused = |e: &PhysicalEntry| e.released && e.mapped == 0;
        if self.physical.get(id).is_ok_and(unused)
            && let Ok(entry) = self.physical.remove(id)
        {
            self.unified.destroy(entry.memory);
        }
    }
}

/// What a guest is told.
pub fn status_of(error: &MapError) -> Status {
    match error {
        MapError::Invalid { .. } => Status::ERROR_INVALID_VALUE,
        MapError::Full(_) => Status::ERROR_OUT_OF_MEMORY,
        MapError::System(_) => {
            tracing::error!(%error, "memory of the software GPU cannot be mapped");
            Status::ERROR_OUT_OF_MEMORY
        }
    }
}
