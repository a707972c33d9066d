//! The encoding of values: round trips, damaged payloads, hostile counts.
#![allow(
    unsafe_code,
    reason = "an allocator that remembers the largest request"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use proptest::prelude::*;
use vgpu_protocol::calls::{
    ArenaSpan, CtxId, DevPtr, DeviceInfo, EventId, FunctionId, FunctionInfo, HelloInfo, JitOption,
    ModuleId, ModuleLoaded, StreamId,
};
use vgpu_protocol::wire::{Arg, Blob, Bytes, List, Reader, Text, Value, WireError, Writer};

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watched;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // The thread may be ending; then nobody asks.
        let _ = LARGEST.try_with(|l| l.set(l.get().max(layout.size())));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn encode<T: Value>(value: &T) -> Vec<u8> {
    let mut w = Writer::new();
    value.put(&mut w);
    w.parts().concat()
}

fn decode<T: Value>(bytes: &[u8]) -> Result<T, WireError> {
    let mut r = Reader::new(bytes);
    let value = T::get(&mut r)?;
    r.finish()?;
    Ok(value)
}

/// The value comes back; every shorter payload and a longer one are errors.
fn checked<T: Value + PartialEq + Debug>(value: &T) -> Result<(), TestCaseError> {
    let mut bytes = encode(value);
    let back = decode::<T>(&bytes);
    prop_assert_eq!(back.as_ref(), Ok(value));
    for end in 0..bytes.len() {
        prop_assert_eq!(
            decode::<T>(&bytes[..end]).err(),
            Some(WireError::Short),
            "{} of {} bytes",
            end,
            bytes.len()
        );
    }
    bytes.push(0);
    prop_assert_eq!(decode::<T>(&bytes).err(), Some(WireError::Long));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn numbers_and_handles(a: u8, c: u32, d: u64, e: i32, f: i64, g in -1e30f32..1e30, h: [u32; 3]) {
        checked(&a)?; checked(&c)?; checked(&d)?; checked(&e)?; checked(&f)?; checked(&g)?; checked(&h)?;
        checked(&(c, d))?;
        checked(&CtxId(c))?; checked(&ModuleId(c))?; checked(&FunctionId(c))?; checked(&StreamId(c))?;
        checked(&EventId(c))?; checked(&DevPtr(d))?;
        checked(&JitOption { option: c, value: d })?;
        checked(&ArenaSpan { position: d, bytes: d ^ 1 })?;
    }

    #[test]
    fn structs(text in ".{0,40}", name in ".{0,20}", uuid: [u8; 16], n: u32, pairs in prop::collection::vec(any::<(i32, i32)>(), 0..8),
               params in prop::collection::vec(any::<(u32, u32)>(), 0..8), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        checked(&Blob(bytes))?;
        checked(&text)?;
        checked(&HelloInfo { vm_id: n, channel: n ^ 7, backend: text.clone(), driver_version: n as i32 })?;
        checked(&vec![DeviceInfo { name: name.clone(), uuid, total_bytes: u64::from(n) << 9, attributes: pairs.clone(), priorities: (0, -5) }; 2])?;
        checked(&ModuleLoaded { status: n, module: ModuleId(n), info_log: text, error_log: name, managed: (pairs.len() as u64, DevPtr(n.into())), managed_bytes: n.into() })?;
        checked(&FunctionInfo { function: FunctionId(n), params, attributes: pairs })?;
    }

    /// Random bytes never panic and never make more than they are.
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        LARGEST.set(0);
        let _ = decode::<Vec<DeviceInfo>>(&bytes);
        let _ = decode::<FunctionInfo>(&bytes);
        let _ = decode::<ModuleLoaded>(&bytes);
        let _ = decode::<Blob>(&bytes);
        let _ = List::<JitOption, 64>::get_arg(&mut Reader::new(&bytes));
        let _ = Text::<100>::get_arg(&mut Reader::new(&bytes));
        prop_assert!(LARGEST.get() < 4096, "{} bytes were allocated at once", LARGEST.get());
    }
}

#[test]
fn hostile_counts_allocate_nothing() {
    let counts = [
        1u64,
        1 << 16,
        64 << 20,
        (64 << 20) + 1,
        1 << 32,
        u64::MAX / 8,
        u64::MAX,
    ];
    for count in counts {
        let raw = count.to_le_bytes();
        LARGEST.set(0);
        assert!(decode::<Vec<DeviceInfo>>(&raw).is_err());
        assert!(decode::<Vec<(u32, u32)>>(&raw).is_err());
        assert!(decode::<Blob>(&raw).is_err());
        assert!(decode::<String>(&raw).is_err());
        assert!(List::<JitOption, { u64::MAX / 16 }>::get_arg(&mut Reader::new(&raw)).is_err());
        assert!(Bytes::<{ u64::MAX - 8 }>::get_arg(&mut Reader::new(&raw)).is_err());
        assert_eq!(LARGEST.get(), 0, "count {count}");
    }
}

#[test]
fn counts_at_their_bound_and_above() {
    let raw = |count: u64, bytes: usize| {
        let mut raw = count.to_le_bytes().to_vec();
        raw.resize(8 + bytes, b'a');
        raw
    };
    let (at, above) = (raw(5, 5), raw(6, 6));
    let too_many = WireError::Count {
        count: 6,
        allowed: 5,
    };
    assert_eq!(
        Bytes::<5>::get_arg(&mut Reader::new(&at)).map(<[u8]>::len),
        Ok(5)
    );
    assert_eq!(Bytes::<5>::get_arg(&mut Reader::new(&above)), Err(too_many));
    assert_eq!(Text::<5>::get_arg(&mut Reader::new(&at)), Ok("aaaaa"));
    assert_eq!(Text::<5>::get_arg(&mut Reader::new(&above)), Err(too_many));
    assert_eq!(
        List::<u8, 5>::get_arg(&mut Reader::new(&at)).map(|l| l.len()),
        Ok(5)
    );
    assert_eq!(
        List::<u8, 5>::get_arg(&mut Reader::new(&above)),
        Err(too_many)
    );
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    let raw = [2, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28];
    assert_eq!(
        Text::<5>::get_arg(&mut Reader::new(&raw)),
        Err(WireError::Text)
    );
    assert_eq!(decode::<String>(&raw), Err(WireError::Text));
}

#[test]
fn long_byte_strings_keep_their_place() {
    let (long, short) = (vec![7u8; 5000], vec![8u8; 10]);
    let mut w = Writer::new();
    1u32.put(&mut w);
    w.bytes(&long);
    2u32.put(&mut w);
    w.bytes(&short);
    w.bytes(&long);
    3u32.put(&mut w);
    assert!(w.contiguous().is_none());
    let all = w.parts().concat();
    let mut r = Reader::new(&all);
    assert_eq!(u32::get(&mut r), Ok(1));
    assert_eq!(Bytes::<5000>::get_arg(&mut r), Ok(&long[..]));
    assert_eq!(u32::get(&mut r), Ok(2));
    assert_eq!(Bytes::<5000>::get_arg(&mut r), Ok(&short[..]));
    assert_eq!(Bytes::<5000>::get_arg(&mut r), Ok(&long[..]));
    assert_eq!(u32::get(&mut r), Ok(3));
    assert_eq!(r.finish(), Ok(()));
}
