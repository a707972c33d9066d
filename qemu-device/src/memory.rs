//! BAR1's memory: a memfd mapped into this process, which QEMU maps into the guest as well.
//!
//! It lies at addresses at which programs in the guest have nothing, so that they can map pieces of
//! its heap under the same ones: above those of the software GPU's device memory, below where Linux
//! puts programs (2/3 of the address space), their libraries and stacks. They tell nothing of where
//! this process has its code and data.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use vgpu_mediator::Ledger;
use vgpu_mediator::heap::{Heap, HeapMemory};
use vgpu_protocol::limits::MAX_BAR1_BYTES;
use vgpu_protocol::window::Window;

/// Where the first BAR1 of a process lies.
const FIRST_ADDRESS: u64 = 0x5100_0000_0000;
/// Further ones follow, in steps of the largest.
const PLACES: u64 = 64;

/// Shared memory that lives as long as this value, and as long as a heap in it.
#[derive(Debug)]
pub struct SharedMemory {
    mapping: Arc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    fd: OwnedFd,
    base: *mut u8,
    bytes: usize,
}

// SAFETY: the value is a mapping's address, which any thread may use and unmap; all access goes
// through `Window`.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; `&Mapping` gives out nothing but a `Window`.
unsafe impl Sync for Mapping {}

/// Maps `size` bytes of `fd` at one of the places, or where the kernel likes.
fn map(fd: BorrowedFd<'_>, size: usize) -> io::Result<*mut u8> {
    let at = |address: u64, fixed: libc::c_int| {
        // SAFETY: a new shared mapping; MAP_FIXED_NOREPLACE, or an address that the kernel picks,
        // replaces no memory of ours.
        let base = unsafe {
            libc::mmap(
                address as *mut libc::c_void,
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE | fixed,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(base.cast::<u8>())
    };
    let mut place = 0;
    while place < PLACES {
        let address = FIRST_ADDRESS + place * MAX_BAR1_BYTES;
        match at(address, libc::MAP_FIXED_NOREPLACE) {
            // A kernel before 4.17 takes the address for a wish: then it is any one.
            Ok(base) => return Ok(base),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => place += 1,
            Err(_) => break,
        }
    }
    at(0, 0)
}

impl SharedMemory {
    /// Creates zeroed shared memory. It costs host memory only where it is touched.
    pub fn new(bytes: u64) -> io::Result<SharedMemory> {
        let size =
            usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let length = libc::off_t::try_from(bytes)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the name is a NUL-terminated literal; the call returns a new descriptor or -1.
        let raw = unsafe { libc::memfd_create(c"vgpu-stub-bar1".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just created and that nothing else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: plain system call on a descriptor that we own.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } != 0 {
            return Err(io::Error::last_os_error());
        }
        SharedMemory::map(fd, size)
    }

    /// Maps memory that another process has made. Its first `bytes` bytes must be there.
    pub fn from_fd(fd: OwnedFd, bytes: u64) -> io::Result<SharedMemory> {
        let size =
            usize::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let file = std::fs::File::from(fd);
        let there = file.metadata()?.len();
        if there < bytes {
            let what = format!("shared memory of {there} bytes, expected are {bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        SharedMemory::map(file.into(), size)
    }

    fn map(fd: OwnedFd, size: usize) -> io::Result<SharedMemory> {
        let base = map(fd.as_fd(), size)?;
        let bytes = size;
        Ok(SharedMemory {
            mapping: Arc::new(Mapping { fd, base, bytes }),
        })
    }

    /// The memory's descriptor, to be mapped by others.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mapping.fd.as_fd()
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.mapping.bytes
    }

    /// True for memory of no bytes.
    pub fn is_empty(&self) -> bool {
        self.mapping.bytes == 0
    }

    /// The memory. Whoever uses the window must keep this value alive: the device's workers are
    /// joined before it is dropped.
    pub fn window(&self) -> Window {
        self.mapping.window()
    }

    /// A heap in the memory from `offset` on; one of no bytes where the memory lies at an address that
    /// would tell a guest where this process has its libraries. With a ledger, other processes take
    /// from it, too.
    pub fn heap(&self, offset: u64, ledger: Option<Ledger>) -> Arc<Heap> {
        let places = FIRST_ADDRESS..FIRST_ADDRESS + PLACES * MAX_BAR1_BYTES;
        if !places.contains(&(self.mapping.base as u64)) {
            return Arc::default();
        }
        let rest = (self.len() as u64).saturating_sub(offset);
        match self.window().slice(offset, rest) {
            Ok(window) => Heap::new(
                Box::new(Part {
                    mapping: Arc::clone(&self.mapping),
                    window,
                    offset,
                }),
                ledger,
            ),
            Err(_) => Arc::default(),
        }
    }
}

/// Makes whole pages of a memfd read as zeros and gives them back to the operating system; false
/// where that fails.
pub fn clear(fd: BorrowedFd<'_>, offset: u64, bytes: u64) -> bool {
    let (Ok(offset), Ok(bytes)) = (libc::off_t::try_from(offset), libc::off_t::try_from(bytes))
    else {
        return false;
    };
    // SAFETY: takes a descriptor that is open, and numbers.
    let done = unsafe {
        libc::fallocate(
            fd.as_raw_fd(),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            offset,
            bytes,
        )
    };
    done == 0
}

impl Mapping {
    fn window(&self) -> Window {
        // SAFETY:
        // - the mapping is readable and writable for `bytes` bytes and page-aligned;
        // - it is unmapped only in `drop`, when neither the device, which joins its workers first,
        //   nor a heap uses it any more;
        // - no Rust reference into it exists anywhere.
        unsafe { Window::new(self.base, self.bytes) }
    }
}

/// The part of the memory that is a heap.
struct Part {
    mapping: Arc<Mapping>,
    window: Window,
    offset: u64,
}

impl HeapMemory for Part {
    fn window(&self) -> Window {
        self.window
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn clear(&self, offset: u64, bytes: u64) -> bool {
        let begin = self.offset.checked_add(offset);
        begin.is_some_and(|begin| clear(self.mapping.fd.as_fd(), begin, bytes))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`, of which no window is used any more (see
        // `window`). An error would mean that it is gone already.
        unsafe { libc::munmap(self.base.cast(), self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpu_protocol::limits::MAX_HEAP_BLOCKS;

    #[test]
    fn the_descriptor_and_the_mapping_are_the_same_memory() {
        let memory = SharedMemory::new(1 << 20).expect("memory");
        memory.window().write(4096, b"hello").expect("inside");
        let file = std::fs::File::from(memory.fd().try_clone_to_owned().expect("fd"));
        let mut back = [0; 5];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut back, 4096).expect("read");
        assert_eq!(&back, b"hello");
    }

    #[test]
    fn memory_of_another_process_is_mapped_where_it_is_whole() {
        let memory = SharedMemory::new(8192).expect("memory");
        let fd = || memory.fd().try_clone_to_owned().expect("fd");
        let same = SharedMemory::from_fd(fd(), 8192).expect("mapped");
        same.window().write(4096, b"x").expect("inside");
        let mut back = [0];
        memory.window().read(4096, &mut back).expect("inside");
        assert_eq!(&back, b"x");
        assert!(SharedMemory::from_fd(fd(), 8193).is_err());
    }

    #[test]
    fn too_much_memory_is_an_error() {
        assert!(SharedMemory::new(u64::MAX).is_err());
        assert!(SharedMemory::new(1 << 60).is_err());
    }

    #[test]
    fn it_lies_where_programs_have_nothing() {
        let memory = [0, 1].map(|_| SharedMemory::new(1 << 20).expect("memory"));
        for m in &memory {
            let at = m.window().base() as u64;
            let last = FIRST_ADDRESS + PLACES * MAX_BAR1_BYTES;
            assert!((FIRST_ADDRESS..last).contains(&at), "{at:#x}");
        }
        assert_ne!(memory[0].window().base(), memory[1].window().base());
    }

    /// Pages that are backed by memory, of a file in /proc/self/fd.
    fn used_blocks(memory: &SharedMemory) -> u64 {
        let file = std::fs::File::from(memory.fd().try_clone_to_owned().expect("fd"));
        std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("metadata"))
    }

    #[test]
    fn a_heap_gives_what_there_is_and_no_more() {
        let memory = SharedMemory::new(8 << 20).expect("memory");
        let heap = memory.heap(4 << 20, None);
        assert_eq!(heap.bytes(), 4 << 20);
        for bytes in [0, (4 << 20) + 1, u64::MAX, u64::MAX - 4095, 1 << 63] {
            assert!(heap.take(bytes).is_none(), "{bytes}");
        }
        let all = heap.take(4 << 20).expect("free");
        assert_eq!(all.offset_in_bar1(), 4 << 20);
        assert_eq!(all.address(), memory.window().base() as u64 + (4 << 20));
        assert!(heap.take(1).is_none());
        drop(all);
        // Pieces are joined again, whatever the order in which they come back.
        let mut pieces: Vec<_> = (0..1024).map(|_| heap.take(1).expect("free")).collect();
        assert!(heap.take(1).is_none());
        while pieces.len() > 1 {
            pieces.swap_remove(pieces.len() / 3);
        }
        assert!(heap.take(4 << 20).is_none());
        pieces.clear();
        assert!(heap.take(4 << 20).is_some());
    }

    #[test]
    fn what_is_given_back_costs_nothing_and_is_zero_again() {
        let memory = SharedMemory::new(8 << 20).expect("memory");
        let heap = memory.heap(4 << 20, None);
        let block = heap.take(1 << 20).expect("free");
        block.window().write(0, &[7; 1 << 20]).expect("inside");
        assert!(used_blocks(&memory) >= (1 << 20) / 512);
        let at = block.address();
        drop(block);
        assert_eq!(used_blocks(&memory), 0);
        let again = heap.take(1 << 20).expect("free");
        assert_eq!(again.address(), at);
        let mut back = [1; 4096];
        again.window().read(0, &mut back).expect("inside");
        assert_eq!(back, [0; 4096]);
    }

    #[test]
    fn pieces_of_a_heap_are_bounded() {
        let memory = SharedMemory::new(512 << 20).expect("memory");
        let heap = memory.heap(0, None);
        let mut all: Vec<_> = (0..MAX_HEAP_BLOCKS)
            .map(|_| heap.take(1).expect("room"))
            .collect();
        assert!(heap.take(1).is_none());
        all.pop();
        assert!(heap.take(1).is_some());
    }

    #[test]
    fn processes_take_pieces_of_one_heap() {
        let memory = SharedMemory::new(16 << 20).expect("memory");
        let accounts = SharedMemory::new(Ledger::BYTES).expect("memory");
        let ledger = Ledger::new(accounts.window()).expect("large enough");
        let [one, two] = [3, 4].map(|channel| {
            let heap = memory.heap(8 << 20, Some(ledger));
            assert!(heap.take(1).is_none(), "of no channel yet");
            heap.serve(channel);
            heap
        });
        let most = one.take((8 << 20) - 8192).expect("free");
        let last = two.take(4097).expect("free");
        assert!(one.take(1).is_none() && two.take(1).is_none());
        last.window().write(0, &[7; 8192]).expect("inside");
        assert_eq!(most.window().len() + last.window().len(), 8 << 20);
        // One gives back what it has; the other has it then.
        drop(most);
        let rest = two.take((8 << 20) - 8192).expect("free");
        // A process that is killed gives nothing back: its device does.
        std::mem::forget((rest, last, two));
        assert!(one.take(1).is_none());
        let clear = |piece: u64, bytes| clear(memory.fd(), (8 << 20) + piece * bytes, bytes);
        ledger.free_heap(4, 8 << 20, clear);
        ledger.free_heap(5, 8 << 20, |_, _| panic!("that channel has nothing"));
        let all = one.take(8 << 20).expect("free");
        let mut back = vec![1; 8 << 20];
        all.window().read(0, &mut back).expect("inside");
        assert!(back.iter().all(|b| *b == 0));
    }

    #[test]
    fn a_heap_outlives_the_device() {
        let memory = SharedMemory::new(8 << 20).expect("memory");
        let block = memory.heap(0, None).take(4096).expect("free");
        drop(memory);
        block.window().write(0, &[1]).expect("inside");
    }
}
