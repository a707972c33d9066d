//! A ring's memory for one thread, which a test may damage at will.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::cell::{Cell, RefCell};

use vgpu_protocol::message::{Flags, Header};
use vgpu_protocol::ring::RingMemory;

/// Ring memory in cells. Accesses outside of `data` panic, as they would be memory errors.
pub struct Memory {
    pub head: Cell<u64>,
    pub parked: Cell<bool>,
    pub data: RefCell<Vec<u8>>,
    /// Flips these bits in every byte after it has been read once.
    pub flip: Cell<u8>,
}

impl Memory {
    pub fn new(capacity: usize) -> Memory {
        Memory {
            head: Cell::new(0),
            parked: Cell::new(false),
            data: RefCell::new(vec![0; capacity]),
            flip: Cell::new(0),
        }
    }

    fn word(&self, at: u64) -> u64 {
        let data = self.data.borrow();
        let bytes = data[at as usize..].first_chunk().expect("in the ring");
        u64::from_le_bytes(*bytes)
    }

    /// Stores a word of the ring.
    pub fn set_word(&self, at: u64, value: u64) {
        self.data.borrow_mut()[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    }
}

impl RingMemory for &Memory {
    fn capacity(&self) -> u64 {
        self.data.borrow().len() as u64
    }
    fn load_end(&self, at: u64) -> u64 {
        self.word(at)
    }
    fn store_end(&self, at: u64, value: u64) {
        self.set_word(at, value);
    }
    fn load_head(&self) -> u64 {
        self.head.get()
    }
    fn store_head(&self, value: u64) {
        self.head.set(value);
    }
    fn parked(&self) -> bool {
        self.parked.get()
    }
    fn set_parked(&self, parked: bool) {
        self.parked.set(parked);
    }
    fn take_parked(&self) -> bool {
        self.parked.replace(false)
    }
    fn full_fence(&self) {}
    fn read(&self, at: u64, into: &mut [u8]) {
        let mut data = self.data.borrow_mut();
        let from = &mut data[at as usize..at as usize + into.len()];
        into.copy_from_slice(from);
        from.iter_mut().for_each(|b| *b ^= self.flip.get());
    }
    fn write(&self, at: u64, from: &[u8]) {
        self.data.borrow_mut()[at as usize..at as usize + from.len()].copy_from_slice(from);
    }
}

/// A header with the given sequence number.
pub fn header(seq: u32) -> Header {
    Header {
        len: 0,
        opcode: 0x55,
        flags: Flags::POSTED,
        seq,
        word: !seq,
        total: u64::from(seq) << 20,
    }
}
