//! Packets between QEMU and a worker process: one byte that says what it is, then its contents.
//! Numbers are little-endian.

use vgpu_protocol::regs::{ABI_VERSION, ChannelFault};

/// Longest packet; longer texts are cut.
pub const MAX_PACKET_BYTES: usize = 16 << 10;

/// Both sides are of the same build, or refuse each other: the call table's hash, and the version
/// of rings and registers.
pub const VERSION: u64 = vgpu_protocol::PROTOCOL_HASH ^ ((ABI_VERSION as u64) << 32);

/// QEMU to the worker process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The first packet, with BAR1's memory and the ledger's: the device's properties.
    Setup(Setup),
    /// Serve this channel, whose doorbell comes along.
    Open(u32),
    /// End the session, and then the process.
    Close,
}

/// See [`Order::Setup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// [`VERSION`] of the sender.
    pub version: u64,
    /// The device's properties.
    pub vm_id: u32,
    /// `channels`.
    pub channels: u32,
    /// `bar1-size`.
    pub bar1_size: u64,
    /// `memory`.
    pub memory: u64,
    /// Whether each call is to be logged.
    pub trace: bool,
    /// `backend`.
    pub backend: String,
    /// `gpu`.
    pub gpu: String,
}

/// The worker process to QEMU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The backend is open.
    Ready {
        /// True for the software GPU.
        soft: bool,
        /// Memory of the GPU in bytes.
        total_bytes: u64,
    },
    /// It is not, and why.
    Refused(String),
    /// A reply waits for a guest that has parked.
    Interrupt,
    /// The channel has failed.
    Fault(ChannelFault),
    /// The guest made a mistake.
    GuestError(String),
    /// A line for the log: level (1 error, 2 warning, 3 information, 4 and 5 more) and text.
    Log(u8, String),
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_le_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
    /// What is left, as text.
    fn text(&mut self) -> String {
        String::from_utf8_lossy(std::mem::take(&mut self.0)).into_owned()
    }
    /// A text behind its length.
    fn short(&mut self) -> Option<String> {
        let bytes = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(head).into_owned())
    }
}

/// As much of a text as fits into a packet.
fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.floor_char_boundary(MAX_PACKET_BYTES - 64)]
}

impl Order {
    /// The packet.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Order::Setup(s) => {
                let mut out = vec![b'S'];
                out.extend(s.version.to_le_bytes());
                out.extend(s.vm_id.to_le_bytes());
                out.extend(s.channels.to_le_bytes());
                out.extend(s.bar1_size.to_le_bytes());
                out.extend(s.memory.to_le_bytes());
                out.push(s.trace.into());
                for text in [&s.backend, &s.gpu] {
                    out.extend((text.len() as u32).to_le_bytes());
                    out.extend(text.as_bytes());
                }
                out
            }
            Order::Open(channel) => [&b"O"[..], &channel.to_le_bytes()].concat(),
            Order::Close => vec![b'C'],
        }
    }

    /// The packet's meaning; `None` where it has none.
    pub fn parse(bytes: &[u8]) -> Option<Order> {
        let mut c = Cursor(bytes);
        match c.u8()? {
            b'S' => Some(Order::Setup(Setup {
                version: c.u64()?,
                vm_id: c.u32()?,
                channels: c.u32()?,
                bar1_size: c.u64()?,
                memory: c.u64()?,
                trace: c.u8()? != 0,
                backend: c.short()?,
                gpu: c.short()?,
            })),
            b'O' => Some(Order::Open(c.u32()?)),
            b'C' => Some(Order::Close),
            _ => None,
        }
    }
}

impl Report {
    /// The packet.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Report::Ready { soft, total_bytes } => {
                [&[b'R', (*soft).into()][..], &total_bytes.to_le_bytes()].concat()
            }
            Report::Refused(why) => [b"N", cut(why)].concat(),
            Report::Interrupt => vec![b'I'],
            Report::Fault(fault) => [&b"F"[..], &(*fault as u32).to_le_bytes()].concat(),
            Report::GuestError(what) => [b"G", cut(what)].concat(),
            Report::Log(level, text) => [&[b'L', *level], cut(text)].concat(),
        }
    }

    /// The packet's meaning; `None` where it has none.
    pub fn parse(bytes: &[u8]) -> Option<Report> {
        let mut c = Cursor(bytes);
        match c.u8()? {
            b'R' => Some(Report::Ready {
                soft: c.u8()? != 0,
                total_bytes: c.u64()?,
            }),
            b'N' => Some(Report::Refused(c.text())),
            b'I' => Some(Report::Interrupt),
            b'F' => Some(Report::Fault(fault(c.u32()?))),
            b'G' => Some(Report::GuestError(c.text())),
            b'L' => Some(Report::Log(c.u8()?, c.text())),
            _ => None,
        }
    }
}

/// A process that has gone wrong may say anything: that is an internal error.
fn fault(bits: u32) -> ChannelFault {
    [
        ChannelFault::BadIndex,
        ChannelFault::BadLength,
        ChannelFault::BadFragment,
        ChannelFault::TooLong,
        ChannelFault::ReplyStalled,
    ]
    .into_iter()
    .find(|fault| *fault as u32 == bits)
    .unwrap_or(ChannelFault::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_what_they_were() {
        let setup = Setup {
            version: VERSION,
            vm_id: 111,
            channels: 32,
            bar1_size: 1 << 28,
            memory: 5,
            trace: true,
            backend: "cuda".to_owned(),
            gpu: "GPU-1".to_owned(),
        };
        for order in [Order::Setup(setup), Order::Open(63), Order::Close] {
            let bytes = order.to_bytes();
            assert_eq!(Order::parse(&bytes), Some(order));
            for n in 1..bytes.len() {
                assert_eq!(Order::parse(&bytes[..n]), None, "cut at {n}");
            }
        }
        for report in [
            Report::Ready {
                soft: true,
                total_bytes: 1 << 40,
            },
            Report::Refused("no GPU".to_owned()),
            Report::Interrupt,
            Report::Fault(ChannelFault::ReplyStalled),
            Report::GuestError("a mistake".to_owned()),
            Report::Log(2, "a line".to_owned()),
        ] {
            assert_eq!(Report::parse(&report.to_bytes()), Some(report));
        }
    }

    #[test]
    fn long_texts_are_cut_and_nonsense_is_nothing() {
        let long = Report::Refused("ü".repeat(MAX_PACKET_BYTES));
        assert!(long.to_bytes().len() <= MAX_PACKET_BYTES);
        assert_eq!(Order::parse(&[]), None);
        assert_eq!(Report::parse(b"?"), None);
        assert_eq!(
            Report::parse(b"F\xff\xff\xff\xff"),
            Some(Report::Fault(ChannelFault::Internal))
        );
    }
}
