//! Managed variables: they lie in memory that the caller finds for all of them at once.

use std::sync::Arc;

use vgpu_soft_gpu::{AddressSpace, AllocError, LoadError, LoadOptions, Module};

const TEXT: &str = ".version 7.0\n.target sm_70\n.address_size 64\n\
    .visible .global .attribute(.managed) .align 4 .u32 one = 7;\n\
    .visible .global .align 4 .u32 plain = 9;\n\
    .visible .global .attribute(.managed) .align 1024 .b8 two[100];\n\
    .visible .global .align 8 .u64 place = generic(two);\n";

/// A number of so many bytes.
fn word(space: &AddressSpace, at: u64, bytes: usize) -> u64 {
    let mut raw = [0; 8];
    space.read(at, &mut raw[..bytes]).expect("readable");
    u64::from_le_bytes(raw)
}

#[test]
fn one_piece_holds_them_all() {
    let space = Arc::new(AddressSpace::new(1 << 20).expect("addresses"));
    let piece = space.alloc(4096, 4096).expect("memory");
    let mut asked = Vec::new();
    let mut find = |bytes| {
        asked.push(bytes);
        Ok(piece)
    };
    let options = LoadOptions::default();
    let module = Module::load_beside(TEXT.as_bytes(), &options, &space, Some(&mut find));
    let module = module.expect("loaded");
    // `two` begins at the next multiple of its alignment.
    assert_eq!(asked, [1024 + 100]);
    assert_eq!(module.global("one"), Some((piece, 4)));
    assert_eq!(module.global("two"), Some((piece + 1024, 100)));
    assert_eq!(word(&space, piece, 4), 7);
    let at = |name: &str| module.global(name).expect("a variable").0;
    let (plain, place) = (at("plain"), at("place"));
    assert!(!(piece..piece + 4096).contains(&plain));
    assert_eq!(word(&space, place, 8), piece + 1024);
    drop(module);
    // It is the caller's, and stays.
    assert_eq!(space.lookup(piece), Some((piece, 4096)));
    assert_eq!(space.lookup(plain), None);
}

#[test]
fn nobody_is_asked_where_there_are_none_and_a_refusal_ends_the_load() {
    let space = Arc::new(AddressSpace::new(1 << 20).expect("addresses"));
    let options = LoadOptions::default();
    let none = AllocError::OutOfMemory {
        requested: 1,
        free: 0,
        limit: 0,
    };
    let mut refuse = |_| Err(none.clone());
    let plain = ".version 7.0\n.target sm_70\n.address_size 64\n.visible .global .u32 v;\n";
    assert!(Module::load_beside(plain.as_bytes(), &options, &space, Some(&mut refuse)).is_ok());
    let used = space.used();
    let refused = Module::load_beside(TEXT.as_bytes(), &options, &space, Some(&mut refuse));
    assert_eq!(refused.err(), Some(LoadError::OutOfMemory(none.clone())));
    assert_eq!(space.used(), used, "nothing stays taken");
    // Without anybody to ask they are like others.
    let module = Module::load(TEXT.as_bytes(), &options, &space).expect("loaded");
    let (at, _) = module.global("one").expect("a variable");
    assert_eq!(word(&space, at, 4), 7);
}
