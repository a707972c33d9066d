//! Memory, copies, sets and pointers.

use std::ptr::null_mut;

use super::{INVALID_CONTEXT, INVALID_VALUE, SUCCESS, alloc, context, turn};
use crate::abi::{Host, In, Out};
use crate::copy::{cuMemcpy, cuMemcpyAsync, cuMemcpyDtoD_v2, cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use crate::copy2d::cuMemcpy2D_v2;
use crate::ctx::cuCtxSynchronize;
use crate::mem::{
    cuMemAlloc_v2, cuMemAllocPitch_v2, cuMemFree_v2, cuMemGetAddressRange_v2, cuMemGetInfo_v2,
};
use crate::memset::{cuMemsetD2D16_v2, cuMemsetD8_v2, cuMemsetD16_v2, cuMemsetD32Async};
use crate::pointer::{cuPointerGetAttribute, cuPointerGetAttributes};

#[test]
fn bytes_go_there_and_back_at_every_size() {
    let _turn = turn();
    let _ctx = context();
    for bytes in [1usize, 8192, 8193, 3 << 20] {
        let mut data: Vec<u8> = (0..bytes).map(|i| (i * 7 + bytes) as u8).collect();
        let at = alloc(bytes);
        assert_eq!(cuMemcpyHtoD_v2(at, Host::to(&mut data), bytes), SUCCESS);
        let copy = alloc(bytes);
        assert_eq!(cuMemcpyDtoD_v2(copy, at, bytes), SUCCESS);
        let mut back = vec![0u8; bytes];
        assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut back), copy, bytes), SUCCESS);
        assert!(back == data, "{bytes} bytes");
    }
}

#[test]
fn the_last_byte_may_be_copied_and_the_next_may_not() {
    let turn = turn();
    let _ctx = context();
    let at = alloc(100);
    let mut data = [1u8; 101];
    let before = turn.count("cuMemcpyHtoD_inline");
    assert_eq!(cuMemcpyHtoD_v2(at, Host::to(&mut data), 101), INVALID_VALUE);
    assert_eq!(
        cuMemcpyHtoD_v2(at + 99, Host::to(&mut data), 2),
        INVALID_VALUE
    );
    assert_eq!(
        cuMemcpyHtoD_v2(at + 100, Host::to(&mut data), 1),
        INVALID_VALUE
    );
    assert_eq!(cuMemcpyHtoD_v2(at, Host(null_mut()), 1), INVALID_VALUE);
    assert_eq!(
        cuMemcpyDtoH_v2(Host::to(&mut data), at + 1, 100),
        INVALID_VALUE
    );
    assert_eq!(cuMemcpyDtoD_v2(at, at + 50, 51), INVALID_VALUE);
    assert_eq!(cuMemsetD8_v2(at, 0, 101), INVALID_VALUE);
    // Nothing of it was sent.
    assert_eq!(turn.count("cuMemcpyHtoD_inline"), before);
    assert_eq!(cuMemcpyHtoD_v2(at + 99, Host::to(&mut data), 1), SUCCESS);
    // Nothing to copy is no error.
    assert_eq!(cuMemcpyHtoD_v2(at, Host(null_mut()), 0), SUCCESS);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
}

#[test]
fn freeing_twice_or_what_was_never_allocated_is_refused() {
    let _turn = turn();
    let _ctx = context();
    let at = alloc(100);
    assert_eq!(cuMemFree_v2(at + 1), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(at), SUCCESS);
    assert_eq!(cuMemFree_v2(at), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(0), INVALID_VALUE);
    assert_eq!(cuMemFree_v2(u64::MAX), INVALID_VALUE);
    assert_eq!(cuMemsetD8_v2(at, 0, 1), INVALID_VALUE);
    assert_eq!(cuCtxSynchronize(), SUCCESS);
}

#[test]
fn allocation_arguments_are_checked() {
    let _turn = turn();
    let ctx = context();
    let mut at = 0;
    assert_eq!(cuMemAlloc_v2(Out::to(&mut at), 0), INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Out::null(), 1), INVALID_VALUE);
    assert_eq!(cuMemAlloc_v2(Out::to(&mut at), 1 << 40), 2);
    let mut pitch = 0;
    assert_eq!(
        cuMemAllocPitch_v2(Out::to(&mut at), Out::to(&mut pitch), 100, 10, 3),
        INVALID_VALUE
    );
    assert_eq!(
        cuMemAllocPitch_v2(Out::to(&mut at), Out::to(&mut pitch), 100, 10, 4),
        SUCCESS
    );
    assert_eq!(pitch, 512);
    assert_eq!(cuMemsetD8_v2(at, 0, 5120), SUCCESS);
    assert_eq!(cuMemsetD8_v2(at, 0, 5121), INVALID_VALUE);
    drop(ctx);
    assert_eq!(cuMemAlloc_v2(Out::to(&mut at), 1), INVALID_CONTEXT);
}

#[test]
fn sets_fill_what_they_say() {
    let _turn = turn();
    let _ctx = context();
    let at = alloc(64);
    assert_eq!(cuMemsetD8_v2(at, 0, 64), SUCCESS);
    assert_eq!(cuMemsetD16_v2(at + 1, 7, 1), INVALID_VALUE);
    assert_eq!(
        cuMemsetD32Async(at + 4, 0x0403_0201, 2, null_mut()),
        SUCCESS
    );
    // Two rows of two elements, 16 bytes apart.
    assert_eq!(cuMemsetD2D16_v2(at + 32, 16, 0x1122, 2, 2), SUCCESS);
    assert_eq!(cuMemsetD2D16_v2(at + 32, 2, 0x1122, 2, 2), INVALID_VALUE);
    assert_eq!(cuMemsetD2D16_v2(at + 32, 16, 0x1122, 2, 3), INVALID_VALUE);
    let mut back = [0u8; 64];
    assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut back), at, 64), SUCCESS);
    let mut expected = [0u8; 64];
    expected[4..12].copy_from_slice(&[1, 2, 3, 4, 1, 2, 3, 4]);
    expected[32..36].copy_from_slice(&[0x22, 0x11, 0x22, 0x11]);
    expected[48..52].copy_from_slice(&[0x22, 0x11, 0x22, 0x11]);
    assert_eq!(back, expected);
}

#[test]
fn rectangles_go_row_by_row() {
    let _turn = turn();
    let _ctx = context();
    let at = alloc(64);
    assert_eq!(cuMemsetD8_v2(at, 0, 64), SUCCESS);
    let mut from: Vec<u8> = (1..=12).collect();
    // 2 rows of 3 bytes from a 4-byte pitch, column 1, row 1, to a 16-byte pitch.
    let params = |dst_pitch: usize, height: usize, from: &mut [u8]| {
        let mut p = [0u64; 16];
        (p[0], p[1], p[2]) = (1, 1, 1);
        (p[3], p[6]) = (from.as_mut_ptr() as u64, 4);
        (p[9], p[11], p[13]) = (2, at, dst_pitch as u64);
        (p[14], p[15]) = (3, height as u64);
        p
    };
    assert_eq!(
        cuMemcpy2D_v2(Host::to(&mut params(16, 2, &mut from))),
        SUCCESS
    );
    let mut back = [0u8; 64];
    assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut back), at, 64), SUCCESS);
    let mut expected = [0u8; 64];
    expected[..3].copy_from_slice(&[6, 7, 8]);
    expected[16..19].copy_from_slice(&[10, 11, 12]);
    assert_eq!(back, expected);
    assert_eq!(
        cuMemcpy2D_v2(Host::to(&mut params(2, 2, &mut from))),
        INVALID_VALUE
    );
    assert_eq!(
        cuMemcpy2D_v2(Host::to(&mut params(64, 2, &mut from))),
        INVALID_VALUE
    );
    let mut array = params(16, 2, &mut from);
    array[9] = 3;
    assert_eq!(cuMemcpy2D_v2(Host::to(&mut array)), 801);
    array[9] = 9;
    assert_eq!(cuMemcpy2D_v2(Host::to(&mut array)), INVALID_VALUE);
    assert_eq!(cuMemcpy2D_v2(Host(null_mut())), INVALID_VALUE);
}

#[test]
fn a_plain_copy_finds_its_direction() {
    let turn = turn();
    let _ctx = context();
    let (a, b) = (alloc(16), alloc(16));
    let mut from = *b"sixteen bytes...";
    let mut to = [0u8; 16];
    let address = |memory: &mut [u8; 16]| memory.as_mut_ptr() as u64;
    let copies = turn.count("cuMemcpyD");
    assert_eq!(cuMemcpy(a, address(&mut from), 16), SUCCESS);
    assert_eq!(cuMemcpyAsync(b, a, 16, null_mut()), SUCCESS);
    assert_eq!(cuMemcpy(address(&mut to), b, 16), SUCCESS);
    assert_eq!(to, from);
    assert_eq!(turn.count("cuMemcpyD"), copies);
    let mut other = [0u8; 16];
    assert_eq!(
        cuMemcpy(address(&mut other), address(&mut from), 16),
        SUCCESS
    );
    assert_eq!(other, from);
    assert_eq!(cuMemcpy(a, address(&mut from), 17), INVALID_VALUE);
}

#[test]
fn an_address_tells_about_its_allocation() {
    let _turn = turn();
    let ctx = context();
    let at = alloc(1000);
    let (mut base, mut bytes) = (0, 0);
    assert_eq!(
        cuMemGetAddressRange_v2(Out::to(&mut base), Out::to(&mut bytes), at + 999),
        SUCCESS
    );
    assert_eq!((base, bytes), (at, 1000));
    assert_eq!(
        cuMemGetAddressRange_v2(Out::to(&mut base), Out::null(), at + 1000),
        500
    );
    let mut kind = [0u32];
    assert_eq!(cuPointerGetAttribute(Host::to(&mut kind), 2, at), SUCCESS);
    assert_eq!(kind, [2]);
    let mut owner = [0u64];
    assert_eq!(
        cuPointerGetAttribute(Host::to(&mut owner), 1, at + 5),
        SUCCESS
    );
    assert_eq!(owner[0], ctx.0 as u64);
    let mut mine = [1u8];
    let host = mine.as_mut_ptr() as u64;
    assert_eq!(
        cuPointerGetAttribute(Host::to(&mut kind), 2, host),
        INVALID_VALUE
    );
    // The plural form has zeros for the program's own memory.
    let values = [kind.as_mut_ptr().cast()];
    assert_eq!(
        cuPointerGetAttributes(1, In::to(&[2]), In::to(&values), host),
        SUCCESS
    );
    assert_eq!(kind, [0]);
}

#[test]
fn memory_info_shows_what_is_allocated() {
    let _turn = turn();
    let _ctx = context();
    let info = || {
        let (mut free, mut total) = (0, 0);
        assert_eq!(
            cuMemGetInfo_v2(Out::to(&mut free), Out::to(&mut total)),
            SUCCESS
        );
        (free, total)
    };
    let before = info();
    let at = alloc(1 << 20);
    assert_eq!(info(), (before.0 - (1 << 20), before.1));
    assert_eq!(cuMemFree_v2(at), SUCCESS);
    assert_eq!(info(), before);
}
