//! What kernels reach through CUDA's device system calls: `printf`, `malloc` and `free`, `assert`,
//! and the limits that a context sets for them (`cuCtxSetLimit`).

mod format;
mod heap;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use format::{Arguments, format};
pub use heap::Heap;

use crate::memory::{AddressSpace, AllocError};

/// `CU_LIMIT_STACK_SIZE` before it is set, in bytes per thread.
pub const DEFAULT_STACK_BYTES: u64 = 1024;
/// `CU_LIMIT_PRINTF_FIFO_SIZE` before it is set, in bytes (CUDA C++ Programming Guide,
/// "Associated Host-Side API": 1 MiB).
pub const DEFAULT_PRINTF_BYTES: u64 = 1 << 20;
/// `CU_LIMIT_MALLOC_HEAP_SIZE` before it is set, in bytes (CUDA C++ Programming Guide, "Heap Memory
/// Allocation": 8 MiB).
pub const DEFAULT_HEAP_BYTES: u64 = 8 << 20;
/// Largest stack of a thread, in bytes: local memory of a thread (CUDA C++ Programming Guide,
/// "Technical Specifications per Compute Capability": 512 KiB).
pub const MAX_STACK_BYTES: u64 = 512 << 10;
/// Largest printf FIFO, in bytes: its text is in the host's memory.
pub const MAX_PRINTF_BYTES: u64 = 64 << 20;

/// Most bytes of messages of failed assertions that are kept: a launch of 2^40 threads that all
/// fail must not fill the host's memory.
const MAX_ASSERT_BYTES: usize = 1 << 20;

/// Why a limit cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A kernel or module that depends on it is there already.
    #[error("the limit is in use: it must be set before the first kernel that needs it")]
    InUse,
    /// More than there can be.
    #[error("{value} bytes are more than {max}")]
    TooLarge {
        /// The value asked for.
        value: u64,
        /// The greatest one.
        max: u64,
    },
}

/// Text of `printf`: whole calls, the oldest overwritten when there are too many.
#[derive(Default)]
struct Fifo {
    lines: VecDeque<Vec<u8>>,
    used: u64,
    size: u64,
    in_use: bool,
}

impl Fifo {
    fn push(&mut self, text: Vec<u8>) {
        self.used += text.len() as u64;
        self.lines.push_back(text);
        while self.used > self.size
            && let Some(old) = self.lines.pop_front()
        {
            self.used -= old.len() as u64;
        }
    }
}

/// The device heap of a context.
#[derive(Default)]
struct HeapState {
    size: u64,
    heap: Option<(Arc<AddressSpace>, Heap)>,
}

impl Drop for HeapState {
    fn drop(&mut self) {
        if let Some((space, heap)) = self.heap.take() {
            // The allocation was made by `create_heap`, and nothing else frees it.
            let _ = space.free(heap.base());
        }
    }
}

/// The device system calls of one context.
pub struct DeviceRuntime {
    stack: AtomicU64,
    fifo: Mutex<Fifo>,
    asserts: Mutex<Vec<u8>>,
    /// There is text that was not taken.
    written: AtomicBool,
    heap: Mutex<HeapState>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for DeviceRuntime {
    fn default() -> DeviceRuntime {
        DeviceRuntime {
            stack: AtomicU64::new(DEFAULT_STACK_BYTES),
            fifo: Mutex::new(Fifo {
                size: DEFAULT_PRINTF_BYTES,
                ..Fifo::default()
            }),
            asserts: Mutex::new(Vec::new()),
            written: AtomicBool::new(false),
            heap: Mutex::new(HeapState {
                size: DEFAULT_HEAP_BYTES,
                heap: None,
            }),
        }
    }
}

impl std::fmt::Debug for DeviceRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceRuntime")
            .field("stack_bytes", &self.stack_bytes())
            .finish_non_exhaustive()
    }
}

impl DeviceRuntime {
    /// Bytes of a thread's stack: what calls may take beyond what the kernel's functions declare.
    pub fn stack_bytes(&self) -> u64 {
        self.stack.load(Ordering::Relaxed)
    }

    /// Sets it, rounded up to a multiple of 16, for launches to come.
    pub fn set_stack_bytes(&self, bytes: u64) -> Result<(), LimitError> {
        check(bytes, MAX_STACK_BYTES)?;
        self.stack
            .store(bytes.next_multiple_of(16), Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of text that `printf` keeps of one launch.
    pub fn printf_bytes(&self) -> u64 {
        lock(&self.fifo).size
    }

    /// Sets it, until a kernel that uses `printf` has been launched.
    pub fn set_printf_bytes(&self, bytes: u64) -> Result<(), LimitError> {
        check(bytes, MAX_PRINTF_BYTES)?;
        let mut fifo = lock(&self.fifo);
        if fifo.in_use {
            return Err(LimitError::InUse);
        }
        fifo.size = bytes;
        Ok(())
    }

    /// Bytes of the device heap.
    pub fn heap_bytes(&self) -> u64 {
        lock(&self.heap).size
    }

    /// Sets it, rounded up to a multiple of 16, until a module that uses `malloc` has been loaded.
    pub fn set_heap_bytes(&self, bytes: u64, max: u64) -> Result<(), LimitError> {
        check(bytes, max)?;
        let mut state = lock(&self.heap);
        if state.heap.is_some() {
            return Err(LimitError::InUse);
        }
        state.size = bytes.next_multiple_of(16);
        Ok(())
    }

    /// Whether the heap is there.
    pub fn has_heap(&self) -> bool {
        lock(&self.heap).heap.is_some()
    }

    /// Makes the heap in the context's memory, unless it is there.
    pub fn create_heap(&self, space: &Arc<AddressSpace>) -> Result<(), AllocError> {
        let mut state = lock(&self.heap);
        if state.heap.is_none() && state.size > 0 {
            let base = space.alloc(state.size, 256)?;
            state.heap = Some((Arc::clone(space), Heap::new(base, state.size)));
        }
        Ok(())
    }

    /// Text that kernels have written since the last call: that of `printf`, for the standard
    /// output, and that of failed assertions, for the standard error.
    pub fn take_output(&self) -> (Vec<u8>, Vec<u8>) {
        // Most launches write nothing.
        if !self.written.load(Ordering::Acquire) || !self.written.swap(false, Ordering::AcqRel) {
            return (Vec::new(), Vec::new());
        }
        let mut fifo = lock(&self.fifo);
        fifo.used = 0;
        let lines = std::mem::take(&mut fifo.lines);
        drop(fifo);
        let asserts = std::mem::take(&mut *lock(&self.asserts));
        (lines.into_iter().flatten().collect(), asserts)
    }

    /// A kernel that uses `printf` is about to run.
    pub(crate) fn use_printf(&self) {
        lock(&self.fifo).in_use = true;
    }

    /// Adds the text of one `printf`; false if it is longer than the whole FIFO.
    pub(crate) fn print(&self, text: Vec<u8>) -> bool {
        let mut fifo = lock(&self.fifo);
        if text.len() as u64 > fifo.size {
            return false;
        }
        fifo.push(text);
        drop(fifo);
        self.written.store(true, Ordering::Release);
        true
    }

    /// Adds the message of a failed assertion.
    pub(crate) fn print_assertion(&self, text: &[u8]) {
        let mut all = lock(&self.asserts);
        if all.len() + text.len() <= MAX_ASSERT_BYTES {
            all.extend_from_slice(text);
        }
        drop(all);
        self.written.store(true, Ordering::Release);
    }

    /// Device `malloc`: an address that is a multiple of 16, or 0.
    pub(crate) fn malloc(&self, bytes: u64) -> u64 {
        let mut state = lock(&self.heap);
        let heap = state.heap.as_mut();
        heap.and_then(|(_, heap)| heap.alloc(bytes)).unwrap_or(0)
    }

    /// Device `free`; false if no `malloc` has given this address.
    pub(crate) fn free(&self, at: u64) -> bool {
        let mut state = lock(&self.heap);
        at == 0 || state.heap.as_mut().is_some_and(|(_, heap)| heap.free(at))
    }
}

fn check(value: u64, max: u64) -> Result<(), LimitError> {
    if value > max {
        Err(LimitError::TooLarge { value, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifo_overwrites_the_oldest_text() {
        let r = DeviceRuntime::default();
        r.set_printf_bytes(8).unwrap();
        r.use_printf();
        assert_eq!(r.set_printf_bytes(16), Err(LimitError::InUse));
        for text in ["one\n", "two\n", "six\n"] {
            assert!(r.print(text.into()));
        }
        assert!(!r.print(vec![b'x'; 9]), "longer than the FIFO");
        assert_eq!(r.take_output(), (b"two\nsix\n".to_vec(), vec![]));
        assert_eq!(r.take_output(), (vec![], vec![]));
    }

    #[test]
    fn limits_are_checked_at_n_and_n_plus_1() {
        let r = DeviceRuntime::default();
        assert_eq!(r.set_stack_bytes(MAX_STACK_BYTES), Ok(()));
        assert!(r.set_stack_bytes(MAX_STACK_BYTES + 1).is_err());
        assert_eq!(r.set_printf_bytes(MAX_PRINTF_BYTES), Ok(()));
        assert!(r.set_printf_bytes(MAX_PRINTF_BYTES + 1).is_err());
        assert_eq!(r.set_heap_bytes(1000, 1000), Ok(()));
        assert!(r.set_heap_bytes(1001, 1000).is_err());
        assert_eq!(r.heap_bytes(), 1008);
    }

    #[test]
    fn the_heap_lives_in_the_contexts_memory() {
        let space = Arc::new(AddressSpace::new(16 << 20).unwrap());
        let r = DeviceRuntime::default();
        assert_eq!(r.malloc(16), 0, "no heap yet");
        r.create_heap(&space).unwrap();
        assert_eq!(space.used(), DEFAULT_HEAP_BYTES);
        assert_eq!(r.set_heap_bytes(1, 2), Err(LimitError::InUse));
        let a = r.malloc(100);
        assert!(a != 0 && a.is_multiple_of(16));
        assert!(space.lookup(a).is_some());
        assert!(r.free(a) && !r.free(a) && r.free(0));
        drop(r);
        assert_eq!(space.used(), 0);
    }
}
