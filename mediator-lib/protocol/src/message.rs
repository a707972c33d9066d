//! Records and messages.
//!
//! A record is a 32-byte header and a payload padded to 8 bytes. The header's last word is the ring's
//! ([`crate::ring`]). A message is one record, or
//! several in a row when it is longer than a record can be: each but the last carries
//! [`Flags::MORE`] and is filled completely.

use alloc::vec::Vec;

use bitflags::bitflags;

use crate::wire::Writer;

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 32;

/// Where in a record's header the ring's word `end` lies, behind the fields of [`Header`].
pub const END_OFFSET: usize = 24;

bitflags! {
    /// Flags of a record.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u16 {
        /// The sender does not wait: there is no reply.
        const POSTED = 1 << 0;
        /// The message goes on in the next record.
        const MORE = 1 << 1;
        /// This record is a reply.
        const REPLY = 1 << 2;
        /// In a reply: the session holds text of kernels for the guest (`vgpuOutput`).
        const OUTPUT = 1 << 3;
        /// With [`Flags::REPLY`]: not a reply but the turn of a function that the guest is to call.
        const NOTICE = 1 << 4;
        const _ = !0;
    }
}

/// Header of a record, little-endian on the wire in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the record: header, payload and padding; a multiple of 8.
    pub len: u32,
    /// The call, as in the call table.
    pub opcode: u16,
    /// See [`Flags`].
    pub flags: Flags,
    /// Counts messages of the channel; a reply repeats its request's.
    pub seq: u32,
    /// Request: the context that is current in the calling thread, 0 for none. Reply: the status.
    pub word: u32,
    /// Bytes of the whole message's payload, over all its records, without padding.
    pub total: u64,
}

impl Header {
    /// The wire form.
    #[inline]
    pub fn to_bytes(self) -> [u8; END_OFFSET] {
        let mut out = [0; END_OFFSET];
        out[0..4].copy_from_slice(&self.len.to_le_bytes());
        out[4..6].copy_from_slice(&self.opcode.to_le_bytes());
        out[6..8].copy_from_slice(&self.flags.bits().to_le_bytes());
        out[8..12].copy_from_slice(&self.seq.to_le_bytes());
        out[12..16].copy_from_slice(&self.word.to_le_bytes());
        out[16..24].copy_from_slice(&self.total.to_le_bytes());
        out
    }

    /// The header in these bytes; any bytes make one.
    #[inline]
    pub fn from_bytes(raw: &[u8; END_OFFSET]) -> Header {
        let u32_at = |i: usize| u32::from_le_bytes([raw[i], raw[i + 1], raw[i + 2], raw[i + 3]]);
        let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
        Header {
            len: u32_at(0),
            opcode: u16::from_le_bytes([raw[4], raw[5]]),
            flags: Flags::from_bits_retain(u16::from_le_bytes([raw[6], raw[7]])),
            seq: u32_at(8),
            word: u32_at(12),
            total: u64_at(16),
        }
    }
}

/// Iterates over the records of a message that is given in parts.
///
/// Each step gives the flags to add and the slices that make up one record's payload.
#[derive(Debug)]
pub struct Fragments<'a> {
    parts: Vec<&'a [u8]>,
    left: u64,
    max_payload: usize,
    started: bool,
}

impl<'a> Fragments<'a> {
    /// Cuts `parts` into payloads of at most `max_record_bytes` less the header.
    pub fn new(parts: Vec<&'a [u8]>, max_record_bytes: u64) -> Fragments<'a> {
        let left = parts.iter().map(|p| p.len() as u64).sum();
        let max_payload = (max_record_bytes as usize).saturating_sub(HEADER_BYTES) & !7;
        Fragments {
            parts,
            left,
            max_payload: max_payload.max(8),
            started: false,
        }
    }

    /// Payload bytes of the whole message.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|p| p.len() as u64).sum()
    }

    /// The next record's payload and whether more follow.
    pub fn next_record(&mut self) -> Option<(Vec<&'a [u8]>, bool)> {
        if self.left == 0 && self.started {
            return None;
        }
        self.started = true;
        let mut room = self.max_payload;
        let mut out = Vec::with_capacity(self.parts.len());
        let mut keep = 0;
        for part in &mut self.parts {
            if room == 0 {
                break;
            }
            let (now, later) = part.split_at(part.len().min(room));
            room -= now.len();
            self.left -= now.len() as u64;
            out.push(now);
            *part = later;
            if later.is_empty() {
                keep += 1;
            }
        }
        self.parts.drain(..keep);
        Some((out, self.left > 0))
    }
}

/// Hands a message to `push`, record by record: in one piece where the payload is, and fits.
/// `header.total` and [`Flags::MORE`] are set here.
pub fn send_records<E>(
    mut header: Header,
    payload: &Writer<'_>,
    max_record_bytes: u64,
    mut push: impl FnMut(Header, &[&[u8]]) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(all) = payload.contiguous()
        && (HEADER_BYTES + all.len().next_multiple_of(8)) as u64 <= max_record_bytes
    {
        header.total = all.len() as u64;
        return push(header, &[all]);
    }
    let mut fragments = Fragments::new(payload.parts(), max_record_bytes);
    header.total = fragments.total();
    while let Some((parts, more)) = fragments.next_record() {
        header.flags.set(Flags::MORE, more);
        push(header, &parts)?;
    }
    Ok(())
}

/// A complete message as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// The call.
    pub opcode: u16,
    /// Flags of its last record.
    pub flags: Flags,
    /// Sequence number.
    pub seq: u32,
    /// See [`Header::word`].
    pub word: u32,
}

/// Why a record does not continue or begin a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssemblyFault {
    /// The record belongs to another message, or its length does not fit its place in it.
    BadFragment,
    /// The message would be longer than allowed.
    TooLong {
        /// The length that it claims, in bytes.
        total: u64,
        /// The bound, in bytes.
        allowed: u64,
    },
}

impl core::fmt::Display for AssemblyFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            AssemblyFault::BadFragment => write!(f, "a record does not continue its message"),
            AssemblyFault::TooLong { total, allowed } => {
                write!(f, "a message of {total} bytes, allowed are {allowed}")
            }
        }
    }
}

/// Puts messages together from records.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: Option<Header>,
    buffer: Vec<u8>,
}

impl Assembler {
    /// Bytes held of a message that is not complete.
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes one record. `payload` holds its payload with padding; when the message is complete
    /// it holds the message's payload instead, without padding. `allowed` bounds the total by the
    /// record's opcode and is asked once, at the first fragment.
    pub fn push(
        &mut self,
        header: Header,
        payload: &mut Vec<u8>,
        allowed: impl FnOnce(&Header) -> u64,
    ) -> Result<Option<Message>, AssemblyFault> {
        let more = header.flags.contains(Flags::MORE);
        let received = match &self.begun {
            None => {
                let allowed = allowed(&header);
                if header.total > allowed {
                    return Err(AssemblyFault::TooLong {
                        total: header.total,
                        allowed,
                    });
                }
                0
            }
            Some(first) => {
                let same = first.opcode == header.opcode
                    && first.seq == header.seq
                    && first.word == header.word
                    && first.total == header.total
                    && (first.flags ^ header.flags) & !Flags::MORE == Flags::empty();
                if !same {
                    return Err(AssemblyFault::BadFragment);
                }
                self.buffer.len() as u64
            }
        };
        let left = header.total - received;
        let fits = if more {
            (payload.len() as u64) < left
        } else {
            payload.len() as u64 == left.next_multiple_of(8)
        };
        // An empty fragment would let a sender keep a message open for ever.
        if !fits || (more && payload.is_empty()) {
            return Err(AssemblyFault::BadFragment);
        }
        let message = Message {
            opcode: header.opcode,
            flags: header.flags,
            seq: header.seq,
            word: header.word,
        };
        if !more && self.begun.is_none() {
            payload.truncate(left as usize);
            return Ok(Some(message));
        }
        self.begun = Some(header);
        let bytes = &payload[..(payload.len() as u64).min(left) as usize];
        let (held, needed) = (self.buffer.capacity(), self.buffer.len() + bytes.len());
        if needed > held {
            // Twice as much each time, but never more than the message has: its total is what its
            // receiver has set aside for it.
            let wanted = held
                .saturating_mul(2)
                .min(header.total as usize)
                .max(needed);
            self.buffer.reserve_exact(wanted - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
        if more {
            return Ok(None);
        }
        self.begun = None;
        core::mem::swap(payload, &mut self.buffer);
        self.buffer = Vec::new();
        Ok(Some(message))
    }
}
