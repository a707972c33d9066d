//! Handles as programs see them: opaque, never 0, and checked on every use.
//!
//! A handle is made of a kind, a generation and an index. After its object is destroyed the
//! generation is another, so that a stale handle is noticed, and one of another kind always.

use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

const INDEX_BITS: u32 = 24;
const GENERATION_BITS: u32 = 16;
/// Keeps handles away from small numbers with a meaning (default streams) and from real memory:
/// the lowest pages are never mapped and these are far below where programs lie.
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u64 = (1 << GENERATION_BITS) - 1;

/// Kinds of handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Kind {
    /// CUcontext.
    Context = 1,
    /// CUmodule.
    Module = 2,
    /// CUfunction.
    Function = 3,
    /// CUstream.
    Stream = 4,
    /// CUevent.
    Event = 5,
    /// CUlibrary.
    Library = 6,
    /// CUkernel.
    Kernel = 15,
    /// CUlinkState.
    Link = 7,
    /// CUgraph.
    Graph = 16,
    /// CUgraphNode.
    GraphNode = 17,
    /// CUgraphExec.
    GraphExec = 18,
    /// CUuserObject.
    UserObject = 19,
    /// CUmemoryPool.
    MemPool = 20,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u64,
    object: Option<Arc<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

/// All objects of one kind.
#[derive(Debug)]
pub struct Registry<T> {
    kind: Kind,
    slots: RwLock<Slots<T>>,
}

impl<T> Registry<T> {
    /// An empty registry.
    pub fn new(kind: Kind) -> Registry<T> {
        Registry {
            kind,
            slots: RwLock::new(Slots {
                slots: Vec::new(),
                free: Vec::new(),
            }),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots<T>> {
        self.slots.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots<T>> {
        self.slots.write().unwrap_or_else(|e| e.into_inner())
    }

    fn encode(&self, index: usize, generation: u64) -> u64 {
        (self.kind as u64) << (INDEX_BITS + GENERATION_BITS)
            | (generation & GENERATION_MASK) << INDEX_BITS
            | index as u64
    }

    fn index(&self, handle: u64) -> Option<(usize, u64)> {
        (handle >> (INDEX_BITS + GENERATION_BITS) == self.kind as u64).then_some((
            (handle & INDEX_MASK) as usize,
            handle >> INDEX_BITS & GENERATION_MASK,
        ))
    }

    /// Adds an object that `make` builds knowing its handle. `None`: 16 million are alive.
    pub fn insert(&self, make: impl FnOnce(u64) -> T) -> Option<(u64, Arc<T>)> {
        let mut all = self.write();
        let index = match all.free.pop() {
            Some(index) => index,
            None => {
                if all.slots.len() as u64 > INDEX_MASK {
                    return None;
                }
                all.slots.push(Slot {
                    generation: 0,
                    object: None,
                });
                all.slots.len() - 1
            }
        };
        let handle = self.encode(index, all.slots[index].generation);
        let object = Arc::new(make(handle));
        all.slots[index].object = Some(Arc::clone(&object));
        Some((handle, object))
    }

    /// The object of a handle.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        let (index, generation) = self.index(handle)?;
        let all = self.read();
        let slot = all.slots.get(index)?;
        if slot.generation != generation {
            return None;
        }
        slot.object.clone()
    }

    /// Every live object.
    pub fn all(&self) -> Vec<Arc<T>> {
        let all = self.read();
        all.slots
            .iter()
            .filter_map(|slot| slot.object.clone())
            .collect()
    }

    /// Takes an object out: its handle is dead from now on.
    pub fn remove(&self, handle: u64) -> Option<Arc<T>> {
        let (index, generation) = self.index(handle)?;
        let mut all = self.write();
        let slot = all.slots.get_mut(index)?;
        if slot.generation != generation {
            return None;
        }
        let object = slot.object.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        all.free.push(index);
        Some(object)
    }

    /// Takes out every object that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&T) -> bool) {
        let mut all = self.write();
        let Slots { slots, free } = &mut *all;
        for (index, slot) in slots.iter_mut().enumerate() {
            if slot.object.as_ref().is_some_and(|o| !keep(o)) {
                slot.object = None;
                slot.generation = (slot.generation + 1) & GENERATION_MASK;
                free.push(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destroyed_handle_stays_dead_when_its_place_is_used_again() {
        let all = Registry::new(Kind::Event);
        let (a, _) = all.insert(|_| 'a').expect("room");
        assert_eq!(all.remove(a).as_deref(), Some(&'a'));
        let (b, _) = all.insert(|_| 'b').expect("room");
        assert_ne!(a, b);
        assert!(all.get(a).is_none() && all.remove(a).is_none());
        assert_eq!(all.get(b).as_deref(), Some(&'b'));
    }

    #[test]
    fn handles_of_another_kind_and_invented_ones_are_not_found() {
        let events = Registry::new(Kind::Event);
        let streams = Registry::new(Kind::Stream);
        let (event, _) = events.insert(|_| ()).expect("room");
        let (stream, _) = streams.insert(|_| ()).expect("room");
        assert!(streams.get(event).is_none() && events.get(stream).is_none());
        for handle in [0, 1, 2, event + 1, event | 1 << 60, u64::MAX] {
            assert!(events.get(handle).is_none(), "{handle:#x}");
        }
    }
}
