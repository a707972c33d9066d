//! Pinned, managed and pooled memory, and the copies that go with them, each compared with what
//! NVIDIA documents.

mod copies;
mod managed;
mod pinned;
mod pools;

use std::ffi::c_void;
use std::ptr;

use anyhow::{Result, ensure};

use crate::call;
use crate::cases::Case;
use crate::cuda::{Arguments, Failed, Function, Module, Shape, Stream, sys};

/// All of them.
pub const CASES: &[Case] = &[
    ("pinned_copies", pinned::copies),
    ("pinned_in_kernels", pinned::kernels),
    ("pinned_order", pinned::order),
    ("pinned_attributes", pinned::attributes),
    ("pinned_bad", pinned::bad),
    ("pinned_threads", pinned::threads),
    ("pinned_many", pinned::many),
    ("managed_both_sides", managed::both_sides),
    ("managed_hints", managed::hints),
    ("managed_copies", managed::copies),
    ("pools_in_streams", pools::in_streams),
    ("pools_attributes", pools::attributes),
    ("pools_in_graphs", pools::in_graphs),
    ("boxes", copies::boxes),
    ("batches", copies::batches),
    ("contexts", copies::contexts),
    ("sharing", copies::sharing),
];

/// `add(p, n, value)`: adds to `n` words. `slow` does it after many steps of nothing.
const PTX: &str = r#"
.version 8.0
.target sm_50
.address_size 64
.visible .entry add(.param .u64 p, .param .u32 n, .param .u32 value)
{
    .reg .u64 %p, %at;
    .reg .u32 %n, %v, %i, %b, %t, %x;
    .reg .pred %done;
    ld.param.u64 %p, [p];
    ld.param.u32 %n, [n];
    ld.param.u32 %v, [value];
    mov.u32 %b, %ctaid.x;
    mov.u32 %t, %ntid.x;
    mov.u32 %i, %tid.x;
    mad.lo.u32 %i, %b, %t, %i;
    setp.ge.u32 %done, %i, %n;
    @%done bra END;
    cvta.to.global.u64 %p, %p;
    mad.wide.u32 %at, %i, 4, %p;
    ld.global.u32 %x, [%at];
    add.u32 %x, %x, %v;
    st.global.u32 [%at], %x;
END:
    ret;
}
.visible .entry slow(.param .u64 p, .param .u32 n, .param .u32 value)
{
    .reg .u64 %p;
    .reg .u32 %n, %v, %i, %x;
    .reg .pred %done;
    ld.param.u64 %p, [p];
    ld.param.u32 %n, [n];
    ld.param.u32 %v, [value];
    mov.u32 %i, 0;
LOOP:
    add.u32 %i, %i, 1;
    setp.lt.u32 %done, %i, %n;
    @%done bra LOOP;
    cvta.to.global.u64 %p, %p;
    ld.volatile.global.u32 %x, [%p];
    add.u32 %x, %x, %v;
    st.volatile.global.u32 [%p], %x;
    ret;
}
"#;

/// The kernels.
struct Kernels {
    _module: Module,
    add: Function,
    slow: Function,
}

impl Kernels {
    fn new() -> Result<Kernels> {
        let module = Module::load(PTX)?;
        let (add, slow) = (module.function("add")?, module.function("slow")?);
        Ok(Kernels {
            _module: module,
            add,
            slow,
        })
    }

    /// Adds to each of `n` words.
    fn add(&self, at: u64, n: usize, value: u32, stream: Option<&Stream>) -> Result<()> {
        let arguments = Arguments::new().with(at).with(n as u32).with(value);
        self.add.launch(Shape::cover(n, 128), stream, &arguments)?;
        Ok(())
    }

    /// Adds to one word, later.
    fn slow(&self, at: u64, value: u32, stream: Option<&Stream>) -> Result<()> {
        let arguments = Arguments::new().with(at).with(300_000u32).with(value);
        self.slow.launch(Shape::grid(1, 1), stream, &arguments)?;
        Ok(())
    }
}

/// Pinned memory of words.
struct Pinned {
    at: *mut c_void,
    words: usize,
}

impl Pinned {
    fn new(words: usize, flags: u32) -> Result<Pinned> {
        let mut at = ptr::null_mut();
        // SAFETY: a place for the pointer.
        unsafe { call!(cuMemHostAlloc(&mut at, 4 * words, flags)) }?;
        Ok(Pinned { at, words })
    }

    /// The device's address.
    fn device(&self) -> Result<u64> {
        let mut device = 0;
        // SAFETY: a place for the address; the memory is ours.
        unsafe { call!(cuMemHostGetDevicePointer_v2(&mut device, self.at, 0)) }?;
        Ok(device)
    }

    fn get(&self, i: usize) -> u32 {
        assert!(i < self.words);
        // SAFETY: inside of the memory; the device may be writing it, as the tests mean it.
        unsafe { self.at.cast::<u32>().add(i).read_volatile() }
    }

    fn set(&self, i: usize, value: u32) {
        assert!(i < self.words);
        // SAFETY: as above.
        unsafe { self.at.cast::<u32>().add(i).write_volatile(value) };
    }

    fn fill(&self, value: impl Fn(usize) -> u32) {
        (0..self.words).for_each(|i| self.set(i, value(i)));
    }

    /// How many words are as they should be.
    fn compare(&self, value: impl Fn(usize) -> u32) -> Result<usize> {
        for i in 0..self.words {
            let (found, wanted) = (self.get(i), value(i));
            ensure!(found == wanted, "word {i} is {found:#x}, not {wanted:#x}");
        }
        Ok(self.words)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: ours, and freed once.
        let _ = unsafe { call!(cuMemFreeHost(self.at)) };
    }
}

/// The error code of a call, 0 for none.
fn code(result: Result<(), Failed>) -> u32 {
    result.map_or_else(|failed| failed.result as u32, |()| 0)
}

/// An attribute of the device.
fn device_attribute(attribute: sys::CUdevice_attribute) -> Result<i32> {
    let mut value = 0;
    // SAFETY: a place for the number.
    unsafe { call!(cuDeviceGetAttribute(&mut value, attribute, 0)) }?;
    Ok(value)
}

/// Bits that differ from word to word.
fn mixed(i: usize) -> u32 {
    (i as u32).wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995
}
