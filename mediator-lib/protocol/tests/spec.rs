//! `docs/specs/vgpu-stub.rst` says what the code does.

use std::collections::BTreeMap;

use vgpu_protocol::calls::{CtxId, Opcode, request};
use vgpu_protocol::layout::{INDEX_BYTES, Layout, index};
use vgpu_protocol::limits;
use vgpu_protocol::message::{END_OFFSET, Flags, HEADER_BYTES, Header};
use vgpu_protocol::regs::{
    ABI_VERSION, BAR0_BYTES, CHANNEL_PAGES, CHANNEL_REGISTERS, ChannelCommand, ChannelFault,
    ChannelReg, ChannelState, DeviceStatus, MAGIC, PAGE_BYTES, REGISTERS, RESET_KEY, RegInfo,
    channel_offset,
};
use vgpu_protocol::ring::record_lines;
use vgpu_protocol::wire::Writer;

const SPEC: &str = include_str!("../../../docs/specs/vgpu-stub.rst");
const LIMITS: &str = include_str!("../src/limits.rs");

/// Rows of the simple table with this title, continuation lines left out.
fn table(title: &str) -> Vec<Vec<&'static str>> {
    let mut lines = SPEC
        .lines()
        .skip_while(|line| *line != format!(".. table:: {title}"))
        .skip(2);
    let rule = lines.next().unwrap_or_else(|| panic!("no table {title}"));
    // Columns begin where a run of '=' does.
    let starts: Vec<usize> = (0..rule.len())
        .filter(|i| rule[*i..].starts_with('=') && (*i == 0 || !rule[..*i].ends_with('=')))
        .collect();
    let cells = |line: &'static str| -> Vec<&'static str> {
        let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        let cell =
            |(from, to): (&usize, usize)| line.get(*from..to.min(line.len())).unwrap_or("").trim();
        starts.iter().zip(ends).map(cell).collect()
    };
    let body = lines
        .skip_while(|line| *line != rule)
        .skip(1)
        .take_while(|line| *line != rule);
    let rows: Vec<_> = body.map(cells).filter(|row| !row[0].is_empty()).collect();
    assert!(!rows.is_empty(), "table {title} has no rows");
    rows
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    }
    .unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

fn check_registers(title: &str, registers: &[RegInfo]) {
    let rows = table(title);
    assert_eq!(rows.len(), registers.len(), "{title}");
    for (row, register) in rows.iter().zip(registers) {
        let [offset, size, access, reset, name, function] = row[..] else {
            panic!("{row:?} has not six columns");
        };
        assert_eq!(name, register.name);
        assert_eq!(number(offset), register.offset, "{name}");
        assert_eq!(number(size), 4, "{name}");
        assert_eq!(access, register.access.name(), "{name}");
        assert!(!function.is_empty(), "{name}");
        match register.reset {
            None => assert_eq!(reset, "config", "{name}"),
            Some(_) if name.starts_with("PROTOCOL_HASH") => assert_eq!(reset, "hash"),
            Some(value) => assert_eq!(number(reset), u64::from(value), "{name}"),
        }
    }
}

fn pairs(title: &str) -> Vec<(u64, &'static str)> {
    table(title)
        .iter()
        .map(|row| (number(row[0]), row[1]))
        .collect()
}

#[test]
fn registers() {
    check_registers("REGISTERS", REGISTERS);
    check_registers("CHANNEL_REGISTERS", CHANNEL_REGISTERS);
    for text in [
        format!("``{CHANNEL_PAGES:#x} + n * {PAGE_BYTES:#x}``"),
        format!("I/O memory, {} KiB", BAR0_BYTES >> 10),
        format!("Writing {RESET_KEY:#x}"),
        format!("(``{MAGIC:#x}``)"),
    ] {
        assert!(SPEC.contains(&text), "no {text:?}");
    }
    assert_eq!(ABI_VERSION >> 16, 2, "the document describes version 2");
}

#[test]
fn values() {
    let status: Vec<_> = DeviceStatus::all()
        .iter_names()
        .map(|(name, bit)| (u64::from(bit.bits()), name))
        .collect();
    assert_eq!(pairs("STATUS"), status);
    let documented: BTreeMap<u64, &str> = pairs("CHANNEL_STATE").into_iter().collect();
    for bits in 0..16u32 {
        let name = ChannelState::from_bits(bits).map(|state| format!("{state:?}"));
        assert_eq!(
            documented.get(&u64::from(bits)).map(|n| (*n).to_owned()),
            name
        );
    }
    let commands =
        [ChannelCommand::Claim, ChannelCommand::Release].map(|c| (c as u64, format!("{c:?}")));
    assert_eq!(owned("CHANNEL_CONTROL"), commands);
    let faults = [
        ChannelFault::None,
        ChannelFault::BadIndex,
        ChannelFault::BadLength,
        ChannelFault::BadFragment,
        ChannelFault::TooLong,
        ChannelFault::ReplyStalled,
        ChannelFault::Internal,
        ChannelFault::WorkerDied,
    ];
    assert_eq!(
        owned("CHANNEL_FAULT"),
        faults.map(|f| (f as u64, format!("{f:?}")))
    );
}

fn owned(title: &str) -> Vec<(u64, String)> {
    pairs(title)
        .into_iter()
        .map(|(value, name)| (value, name.to_owned()))
        .collect()
}

#[test]
fn indices() {
    let expected = [
        (index::COMMAND_HEAD, 8, "COMMAND_HEAD"),
        (index::COMMAND_PARKED, 4, "COMMAND_PARKED"),
        (index::REPLY_HEAD, 8, "REPLY_HEAD"),
        (index::REPLY_PARKED, 4, "REPLY_PARKED"),
        (index::ARENA_HEAD, 8, "ARENA_HEAD"),
        (index::DEFERRED_ERROR, 4, "DEFERRED_ERROR"),
        (index::CALLBACKS_DONE, 8, "CALLBACKS_DONE"),
    ];
    let rows = table("INDICES");
    let found: Vec<_> = rows
        .iter()
        .map(|row| (number(row[0]), number(row[1]), row[3]))
        .collect();
    assert_eq!(found, expected);
    assert!(SPEC.contains(&format!("one page ({INDEX_BYTES} bytes) of indices")));
}

#[test]
fn header() {
    let rows = table("HEADER");
    let end = rows.last().map(|row| number(row[0]) + number(row[1]));
    assert_eq!(end, Some(HEADER_BYTES as u64));
    let none = Header {
        len: 0,
        opcode: 0,
        flags: Flags::empty(),
        seq: 0,
        word: 0,
        total: 0,
    };
    for row in &rows {
        let (from, bytes) = (number(row[0]) as usize, number(row[1]) as usize);
        let mut header = none;
        match row[2] {
            "len" => header.len = u32::MAX,
            "opcode" => header.opcode = u16::MAX,
            "flags" => header.flags = Flags::from_bits_retain(u16::MAX),
            "seq" => header.seq = u32::MAX,
            "word" => header.word = u32::MAX,
            "total" => header.total = u64::MAX,
            "end" => {
                assert_eq!((from, bytes), (END_OFFSET, 8));
                continue;
            }
            other => panic!("the header has no {other}"),
        }
        let mut expected = [0; END_OFFSET];
        expected[from..from + bytes].fill(0xff);
        assert_eq!(header.to_bytes(), expected, "{}", row[2]);
    }
    let flags = [
        Flags::POSTED,
        Flags::MORE,
        Flags::REPLY,
        Flags::OUTPUT,
        Flags::NOTICE,
    ];
    let names = ["POSTED", "MORE", "REPLY", "OUTPUT", "NOTICE"];
    let expected: Vec<_> = flags
        .iter()
        .map(|f| u64::from(f.bits()))
        .zip(names)
        .collect();
    assert_eq!(pairs("FLAGS"), expected);
}

macro_rules! limits {
    ($($name:ident)*) => { [$((stringify!($name), limits::$name as u64)),*] };
}

#[test]
fn every_limit() {
    let documented: Vec<_> = table("LIMITS")
        .iter()
        .map(|row| (row[0], number(row[1])))
        .collect();
    let known = limits![
        MAX_CHANNELS DEFAULT_CHANNELS MIN_BAR1_BYTES MAX_BAR1_BYTES DEFAULT_BAR1_BYTES MAX_MESSAGE_BYTES
        MAX_ASSEMBLY_BYTES MAX_PARAM_BYTES MAX_NAME_BYTES MAX_COUNTED_KERNELS MAX_CLIENT_BYTES MAX_JIT_LOG_BYTES MAX_OUTPUT_BYTES MAX_TEXT_REPLY_BYTES MAX_JIT_OPTIONS
        MAX_LINKS MAX_LINK_INPUT_BYTES MAX_LINKED_BYTES MAX_INLINE_COPY_BYTES MAX_CONTEXTS MAX_STREAMS MAX_EVENTS MAX_MODULES MAX_FUNCTIONS MAX_QUEUED_OPERATIONS
        MAX_QUEUED_BYTES MAX_SUSPENDED_CALLS MAX_SUSPENDED_BYTES MAX_LAUNCH_ATTRIBUTES
        MAX_MEM_OPS MAX_GRAPHS MAX_GRAPH_BYTES MAX_GRAPH_NODES MAX_RESERVED_BYTES MAX_ROWS MAX_BLAS_HANDLES MAX_LT_ALGORITHMS MAX_MAPPINGS MAX_PHYSICAL
        MAX_HEAP_BLOCKS
    ];
    assert_eq!(documented, known);
    let in_source: Vec<&str> = LIMITS
        .lines()
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    assert_eq!(
        in_source,
        known.map(|(name, _)| name),
        "each constant of limits.rs has a row"
    );
    assert!(
        table("LIMITS")
            .iter()
            .all(|row| row.len() == 3 && !row[2].is_empty()),
        "each has its reason"
    );
}

#[test]
fn the_example() {
    let layout = Layout::new(limits::DEFAULT_BAR1_BYTES, limits::DEFAULT_CHANNELS).expect("valid");
    assert_eq!(layout.area_bytes, 0x40_0000);
    assert_eq!(layout.area(2) + layout.command_ring(), 0x80_1000);
    assert_eq!(channel_offset(2, ChannelReg::Control), 0x1_2008);
    assert_eq!(channel_offset(2, ChannelReg::Doorbell), 0x1_2000);
    let shown: Vec<u8> = SPEC
        .lines()
        .skip_while(|line| !line.contains("``0x801000``::"))
        .skip(2)
        .take_while(|line| !line.is_empty())
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).expect("a byte"))
        .collect();
    let mut writer = Writer::new();
    let opcode = request::hello(&mut writer, "my name!", 1337);
    assert_eq!(opcode, Opcode::vgpuHello);
    let payload = writer.parts().concat();
    let header = Header {
        len: (HEADER_BYTES + payload.len().next_multiple_of(8)) as u32,
        opcode: opcode as u16,
        flags: Flags::empty(),
        seq: 1,
        word: CtxId(0).0,
        total: payload.len() as u64,
    };
    let end = record_lines(u64::from(header.len));
    assert_eq!(layout.area(2) + layout.command_ring() + end + 24, 0x80_1058);
    let end = end.to_le_bytes();
    let mut record = [&header.to_bytes()[..], &end, &payload].concat();
    record.resize(header.len as usize, 0);
    assert_eq!(shown, record);
}
