//! Objects of the program that graphs keep alive.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUgraph, CUuserObject};
use vgpu_protocol::Status;

use crate::abi::{Done, Function, Host, INVALID, Out, exports};
use crate::init::{Driver, driver};

/// `CU_USER_OBJECT_NO_DESTRUCTOR_SYNC`, which must be given.
const NO_DESTRUCTOR_SYNC: u32 = 1;
/// `CU_GRAPH_USER_OBJECT_MOVE`: the caller's references become the graph's.
const MOVE: u32 = 1;

/// An object: called once when nobody refers to it any more.
pub struct UserObject {
    destroy: Function,
    data: u64,
    references: Mutex<u64>,
}

impl std::fmt::Debug for UserObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserObject").finish_non_exhaustive()
    }
}

/// References that a graph holds, by handle.
#[derive(Default)]
pub struct Held(Mutex<HashMap<u64, (Arc<UserObject>, u64)>>);

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, (Arc<UserObject>, u64)>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Refers to all that another graph refers to.
    pub fn copy_from(&self, other: &Held) {
        let all = other.lock().clone();
        for (object, count) in all.values() {
            object.retain(*count);
        }
        *self.lock() = all;
    }

    /// Refers to nothing any more.
    pub fn release_all(&self, driver: &Driver) {
        for (handle, (_, count)) in std::mem::take(&mut *self.lock()) {
            // The references were counted when they were taken.
            let _ = driver.release_object(handle, count);
        }
    }
}

impl UserObject {
    fn retain(&self, count: u64) {
        *self.references.lock().unwrap_or_else(|e| e.into_inner()) += count;
    }
}

impl Driver {
    fn object(&self, handle: u64) -> Done<Arc<UserObject>> {
        self.user_objects.get(handle).ok_or(INVALID)
    }

    fn release_object(&self, handle: u64, count: u64) -> Done {
        let object = self.object(handle)?;
        let mut references = object.references.lock().unwrap_or_else(|e| e.into_inner());
        *references = references.checked_sub(count).ok_or(INVALID)?;
        let gone = *references == 0;
        drop(references);
        if gone && self.user_objects.remove(handle).is_some() {
            // NVIDIA calls it in a thread of its own; nothing of ours is locked here.
            object.destroy.call(object.data);
        }
        Ok(())
    }
}

fn count(count: u32) -> Done<u64> {
    if count == 0 || count > i32::MAX as u32 {
        return Err(INVALID);
    }
    Ok(count.into())
}

exports! {
    /// Makes an object with so many references of the caller's.
    fn cuUserObjectCreate(
        out: Out<CUuserObject>, data: Host, destroy: Option<Function>, references: u32, flags: u32,
    ) {
        let driver = driver()?;
        out.check()?;
        let destroy = destroy.ok_or(INVALID)?;
        if flags != NO_DESTRUCTOR_SYNC {
            return Err(INVALID);
        }
        let references = count(references)?;
        let made = driver.user_objects.insert(|_| UserObject {
            destroy,
            data: data.0 as u64,
            references: Mutex::new(references),
        });
        out.set(made.ok_or(Status::ERROR_OUT_OF_MEMORY)?.0 as CUuserObject)
    }

    /// More references of the caller's.
    fn cuUserObjectRetain(object: CUuserObject, references: u32) {
        driver()?.object(object as u64)?.retain(count(references)?);
        Ok(())
    }

    /// Fewer references of the caller's; the last one destroys the object.
    fn cuUserObjectRelease(object: CUuserObject, references: u32) {
        driver()?.release_object(object as u64, count(references)?)
    }

    /// References of a graph: new ones, or the caller's.
    fn cuGraphRetainUserObject(graph: CUgraph, object: CUuserObject, references: u32, flags: u32) {
        let driver = driver()?;
        let graph = driver.graph(graph)?;
        let handle = object as *mut c_void as u64;
        let object = driver.object(handle)?;
        let references = count(references)?;
        if flags & !MOVE != 0 {
            return Err(INVALID);
        }
        if flags & MOVE == 0 {
            object.retain(references);
        }
        graph.held.lock().entry(handle).or_insert((object, 0)).1 += references;
        Ok(())
    }

    /// Fewer references of a graph.
    fn cuGraphReleaseUserObject(graph: CUgraph, object: CUuserObject, references: u32) {
        let driver = driver()?;
        let graph = driver.graph(graph)?;
        let references = count(references)?;
        let handle = object as u64;
        {
            let mut held = graph.held.lock();
            let (_, has) = held.get_mut(&handle).ok_or(INVALID)?;
            *has = has.checked_sub(references).ok_or(INVALID)?;
            if *has == 0 {
                held.remove(&handle);
            }
        }
        driver.release_object(handle, references)
    }
}
