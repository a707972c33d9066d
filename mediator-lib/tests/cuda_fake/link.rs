//! The linker.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{JitOption, LinkId};
use vgpu_protocol::limits::{MAX_LINK_INPUT_BYTES, MAX_LINKS};

use crate::harness::{Channel, FakeDriver, OpenDriver};

/// `CUjitInputType`.
const CUBIN: u32 = 0;
const PTX: u32 = 1;
const LIBRARY: u32 = 4;
const NVVM: u32 = 5;

#[test]
fn texts_are_linked_and_logs_come_back() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let s = &mut c.session;
    let number = |option| vec![JitOption { option, value: 1 }];
    let link = s.link_create(ctx, number(0)).expect("created");
    let mut add = |kind, data: &[u8]| s.link_add(ctx, link, kind, "in.ptx", Vec::new(), data);
    let one = add(PTX, b".version 8.0\n").expect("an answer");
    assert_eq!((one.status, &*one.info_log), (0, "added in.ptx"));
    let bad = add(PTX, b".version 8.0\nbroken").expect("an answer");
    assert_eq!(Status(bad.status), Status::ERROR_INVALID_PTX);
    assert!(bad.error_log.contains("in.ptx, line 2") && bad.info_log.is_empty());
    let cut_short = add(CUBIN, b"\x7fELF\x02\x01 and no more").expect("an answer");
    assert_eq!(Status(cut_short.status), Status::ERROR_INVALID_IMAGE);
    assert!(add(LIBRARY, b"!<arch>").expect("an answer").status == 0);
    assert_eq!(add(NVVM, b"bits").err(), Some(Status::ERROR_INVALID_VALUE));
    let long = vec![b' '; MAX_LINK_INPUT_BYTES as usize + 1];
    assert_eq!(add(LIBRARY, &long).err(), Some(Status::ERROR_OUT_OF_MEMORY));
    let (report, image) = s.link_complete(ctx, link).expect("an answer");
    assert_eq!(report.status, 0);
    assert_eq!(image.0, b".version 8.0\n\n!<arch>\n\0");
    s.link_destroy(ctx, link).expect("destroyed");
    assert_eq!(
        s.link_complete(ctx, link).err(),
        Some(Status::ERROR_INVALID_HANDLE)
    );
    // Addresses are no numbers: CU_JIT_GLOBAL_SYMBOL_ADDRESSES.
    let address = s.link_create(ctx, number(18));
    assert_eq!(address.err(), Some(Status::ERROR_INVALID_VALUE));
}

#[test]
fn a_symbol_that_is_not_there_is_named() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let s = &mut c.session;
    let link = s.link_create(ctx, Vec::new()).expect("created");
    let text = b".version 8.0\n// unknown";
    let added = s.link_add(ctx, link, PTX, "a", Vec::new(), text);
    assert_eq!(added.expect("an answer").status, 0);
    let (report, image) = s.link_complete(ctx, link).expect("an answer");
    assert_eq!(Status(report.status), Status::ERROR_UNKNOWN);
    assert!(report.error_log.contains("Undefined reference") && image.0.is_empty());
}

#[test]
fn linkers_are_counted_and_end_with_their_context() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open());
    let ctx = c.context();
    let s = &mut c.session;
    for n in 0..MAX_LINKS {
        assert_eq!(s.link_create(ctx, Vec::new()), Ok(LinkId(n as u32 + 1)));
    }
    let above = s.link_create(ctx, Vec::new());
    assert_eq!(above.err(), Some(Status::ERROR_OUT_OF_MEMORY));
    s.link_destroy(ctx, LinkId(1)).expect("destroyed");
    assert!(s.link_create(ctx, Vec::new()).is_ok());
}
