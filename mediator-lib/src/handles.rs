//! Tables of what a session owns. A handle is a number of that session alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    BlasId, CtxId, EventId, FunctionId, GraphId, LinkId, ModuleId, PhysicalId, StreamId,
};

/// A handle type.
pub trait Id: Copy {
    /// The handle with this number.
    fn from_number(number: u32) -> Self;
    /// Its number.
    fn number(self) -> u32;
    /// What CUDA answers to an unknown handle of this kind.
    const UNKNOWN: Status;
}

macro_rules! ids {
    ($($id:ident => $status:ident,)*) => {$(
        impl Id for $id {
            fn from_number(number: u32) -> $id {
                $id(number)
            }
            fn number(self) -> u32 {
                self.0
            }
            const UNKNOWN: Status = Status::$status;
        }
    )*};
}

ids! {
    CtxId => ERROR_INVALID_CONTEXT,
    ModuleId => ERROR_INVALID_HANDLE,
    FunctionId => ERROR_INVALID_HANDLE,
    StreamId => ERROR_INVALID_HANDLE,
    EventId => ERROR_INVALID_HANDLE,
    GraphId => ERROR_INVALID_HANDLE,
    LinkId => ERROR_INVALID_HANDLE,
    BlasId => ERROR_INVALID_HANDLE,
    PhysicalId => ERROR_INVALID_VALUE,
}

/// Hashes handles, several times for each call: by one multiplication. A guest chooses some of the numbers; without
/// the key it cannot choose them so that they fall together.
#[derive(Clone, Debug)]
struct Numbers {
    key: u64,
}

#[derive(Debug)]
struct Folded(u64);

impl Default for Numbers {
    fn default() -> Numbers {
        Numbers {
            key: RandomState::new().hash_one(0),
        }
    }
}

impl BuildHasher for Numbers {
    type Hasher = Folded;
    fn build_hasher(&self) -> Folded {
        Folded(self.key)
    }
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, number: u32) {
        // An odd number whose bits look random: 2⁶⁴ divided by the golden ratio.
        let product = u128::from(self.0 ^ u64::from(number)) * 0x9e37_79b9_7f4a_7c15;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Objects by handle. Numbers start at 1 and are not reused while 2³² last, so that a stale handle
/// finds nothing.
#[derive(Debug)]
pub struct Table<K, V> {
    objects: HashMap<u32, V, Numbers>,
    next: u32,
    max: usize,
    kind: std::marker::PhantomData<K>,
}

impl<K: Id, V> Table<K, V> {
    /// A table of at most `max` objects.
    pub fn new(max: usize) -> Table<K, V> {
        Table {
            objects: HashMap::default(),
            next: 1,
            max,
            kind: std::marker::PhantomData,
        }
    }

    /// Fails when the table is full.
    ///
    /// # Errors
    /// `ERROR_OUT_OF_MEMORY`.
    pub fn require_room(&self) -> Result<(), Status> {
        if self.objects.len() < self.max {
            Ok(())
        } else {
            Err(Status::ERROR_OUT_OF_MEMORY)
        }
    }

    /// Adds an object under a new handle.
    ///
    /// # Errors
    /// `ERROR_OUT_OF_MEMORY` when the table is full.
    pub fn add(&mut self, object: V) -> Result<K, Status> {
        self.require_room()?;
        while self.next == 0 || self.objects.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.objects.insert(id, object);
        Ok(K::from_number(id))
    }

    /// Adds an object under a handle that the guest has chosen.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE` when the handle is 0 or taken, `ERROR_OUT_OF_MEMORY` when the table
    /// is full.
    pub fn add_as(&mut self, id: K, object: V) -> Result<(), Status> {
        if id.number() == 0 || self.objects.contains_key(&id.number()) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        self.require_room()?;
        self.objects.insert(id.number(), object);
        Ok(())
    }

    /// The object of a handle.
    pub fn get(&self, id: K) -> Result<&V, Status> {
        self.objects.get(&id.number()).ok_or(K::UNKNOWN)
    }

    /// The object of a handle, to change.
    pub fn get_mut(&mut self, id: K) -> Result<&mut V, Status> {
        self.objects.get_mut(&id.number()).ok_or(K::UNKNOWN)
    }

    /// Takes an object out.
    pub fn remove(&mut self, id: K) -> Result<V, Status> {
        self.objects.remove(&id.number()).ok_or(K::UNKNOWN)
    }

    /// Takes out every object for which `pick` is true.
    pub fn take_if(&mut self, mut pick: impl FnMut(&V) -> bool) -> Vec<V> {
        let ids: Vec<u32> = self
            .objects
            .iter()
            .filter(|(_, v)| pick(v))
            .map(|(k, _)| *k)
            .collect();
        ids.iter()
            .filter_map(|id| self.objects.remove(id))
            .collect()
    }

    /// All objects.
    pub fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.objects.iter().map(|(k, v)| (K::from_number(*k), v))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_handle_is_not_given_out_again() {
        let mut table: Table<ModuleId, &str> = Table::new(2);
        let a = table.add("a").expect("room");
        table.remove(a).expect("there");
        let b = table.add("b").expect("room");
        assert_ne!(a, b);
        assert_eq!(table.get(a), Err(Status::ERROR_INVALID_HANDLE));
        assert_eq!(table.remove(a), Err(Status::ERROR_INVALID_HANDLE));
    }

    #[test]
    fn the_table_holds_its_maximum_and_no_more() {
        let mut table: Table<StreamId, ()> = Table::new(2);
        assert_eq!(table.add_as(StreamId(7), ()), Ok(()));
        assert_eq!(
            table.add_as(StreamId(7), ()),
            Err(Status::ERROR_INVALID_HANDLE)
        );
        assert_eq!(
            table.add_as(StreamId(0), ()),
            Err(Status::ERROR_INVALID_HANDLE)
        );
        assert_eq!(table.add_as(StreamId(8), ()), Ok(()));
        assert_eq!(
            table.add_as(StreamId(9), ()),
            Err(Status::ERROR_OUT_OF_MEMORY)
        );
    }
}
