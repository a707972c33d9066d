//! Changes of PTX texts that leave most of them right, so that they get past the parser.

use crate::corpus::Corpus;
use crate::random::Random;
use crate::statement::{Names, Statement, in_name};

/// Longest text that grows further.
const MAX_BYTES: usize = 600 << 10;

/// Operands that are neither registers nor numbers.
const OPERANDS: &[&str] = &[
    "%tid.x",
    "%tid",
    "%laneid",
    "%ctaid.y",
    "%lanemask_lt",
    "%clock64",
    "%envreg1",
    "%nctaid.x",
    "WARP_SZ",
    "_",
    "0f7F800000",
    "0f7FC00000",
    "0dFFF0000000000000",
    "0f00000001",
    "-0",
    "!%p1",
    "%dynamic_smem_size",
    "%total_smem_size",
    "%gridid",
    "%smid",
    "-2147483648",
    "9223372036854775807",
    "0xffffffffffffffff",
    "0x10000000000",
    "0x01ffffffffff",
    "0x40000000000",
    "[0]",
    "[%rd1]",
    "[%rd1+-4]",
    "{%r1,%r2}",
    "{%r1,%r2,%r3,%r4}",
    "-%r1",
    "%r1|%p1",
    "a",
    "p",
];

/// A text with up to a handful of changes.
pub fn mutate(r: &mut Random, text: &str, corpus: &Corpus) -> Vec<u8> {
    let names = Names::of(text);
    let mut lines: Vec<String> = text
        .lines()
        .flat_map(|l| l.split_inclusive(';'))
        .map(str::to_owned)
        .collect();
    let changes = match r.below(4) {
        0 => 1,
        1 | 2 => 1 + r.below(4),
        _ => 1 + r.below(10),
    };
    for _ in 0..changes {
        change(r, &mut lines, &names, corpus);
    }
    let mut out = lines.join("\n").into_bytes();
    if r.one_in(24) {
        for _ in 0..1 + r.below(3) {
            let at = r.below(out.len());
            if let Some(b) = out.get_mut(at) {
                *b = *r.of(b"\0{}();,.:<>[]%@!|+-\"/*\xff0aZ _$\n");
            }
        }
    }
    out
}

/// A line with an instruction; any line where there is none.
fn instruction(r: &mut Random, lines: &[String]) -> usize {
    for _ in 0..20 {
        let at = r.below(lines.len());
        let line = lines[at].trim_start();
        if line.ends_with(';') && !line.starts_with('.') {
            return at;
        }
    }
    r.below(lines.len())
}

fn change(r: &mut Random, lines: &mut Vec<String>, names: &Names, corpus: &Corpus) {
    if lines.is_empty() {
        return;
    }
    let at = instruction(r, lines);
    match r.below(20) {
        0..=3 if !corpus.statements.is_empty() => {
            let s = r.of(&corpus.statements).with(r, names);
            lines.insert(at, s);
        }
        4 | 5 => opcode(r, &mut lines[at], corpus),
        6..=8 => modifier(r, &mut lines[at], corpus),
        9..=12 => operand(r, &mut lines[at], names),
        13 => guard(r, &mut lines[at], names),
        14 => {
            lines.remove(at);
        }
        15 => {
            let n = 1 + r.below(4.min(lines.len() - at));
            let part = lines[at..at + n].to_vec();
            let bytes: usize = lines.iter().map(String::len).sum();
            if bytes < MAX_BYTES {
                let to = r.below(lines.len());
                lines.splice(to..to, part);
            }
        }
        16 => {
            let other = instruction(r, lines);
            lines.swap(at, other);
        }
        17 => {
            if !names.labels.is_empty() {
                let label = r.of(&names.labels).clone();
                let p = names.register(r, 1);
                let s = match r.below(4) {
                    0 => format!("bra {label};"),
                    1 => format!("@!{p} bra {label};"),
                    2 => format!("bra.uni {label};"),
                    _ => format!("@{p} bra {label};"),
                };
                lines.insert(at, s);
            }
        }
        18 => {
            // Declarations: sizes, alignments, counts.
            let at = r.below(lines.len());
            number(r, &mut lines[at]);
        }
        _ => {
            let s = match r.below(6) {
                0 => "bar.sync 0;".to_owned(),
                1 => "ret;".to_owned(),
                2 => format!("@{} exit;", names.register(r, 1)),
                3 => format!("mov.b64 {}, {};", names.register(r, 64), r.number()),
                4 => format!("mov.b32 {}, {};", names.register(r, 32), r.number() as i32),
                _ => format!(
                    "setp.{}.s32 {}, {}, {};",
                    r.of(&["eq", "lt", "gt"]),
                    names.register(r, 1),
                    names.register(r, 32),
                    r.below(32)
                ),
            };
            lines.insert(at, s);
        }
    }
}

/// Another opcode: of the same mnemonic, mostly.
fn opcode(r: &mut Random, line: &mut String, corpus: &Corpus) {
    let Some(statement) = Statement::parse(line, &Names::default()) else {
        return;
    };
    let old = statement.opcode().to_owned();
    let mnemonic = old.split('.').next().unwrap_or_default();
    let all: Vec<&Vec<String>> = match corpus.opcodes.get(mnemonic) {
        Some(same) if !r.one_in(4) => vec![same],
        _ => corpus.opcodes.values().collect(),
    };
    if let Some(list) = all.get(r.below(all.len())) {
        *line = line.replacen(&old, r.of::<String>(list), 1);
    }
}

/// One modifier more, less or another.
fn modifier(r: &mut Random, line: &mut String, corpus: &Corpus) {
    let Some(statement) = Statement::parse(line, &Names::default()) else {
        return;
    };
    let old = statement.opcode().to_owned();
    let mut words: Vec<String> = old.split('.').map(str::to_owned).collect();
    if corpus.modifiers.is_empty() {
        return;
    }
    let new = r.of(&corpus.modifiers).trim_start_matches('.').to_owned();
    let at = 1 + r.below(words.len());
    match r.below(4) {
        0 if at < words.len() => {
            words.remove(at);
        }
        1 => words.insert(at.min(words.len()), new),
        _ if at < words.len() => words[at] = new,
        _ => words.push(new),
    }
    *line = line.replacen(&old, &words.join("."), 1);
}

/// Where a name or number of a line begins and ends; the opcode is none.
fn words(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = line.find([' ', '\t']).unwrap_or(line.len());
    while let Some(start) = line.get(at..).and_then(|l| l.find(in_name)) {
        let start = at + start;
        let rest = line.get(start..).unwrap_or_default();
        let end = start + rest.find(|c| !in_name(c)).unwrap_or(rest.len());
        found.push((start, end));
        at = end;
    }
    found
}

fn operand(r: &mut Random, line: &mut String, names: &Names) {
    let all = words(line);
    if all.is_empty() {
        return;
    }
    let (start, end) = *r.of(&all);
    let new = match r.below(8) {
        0..=2 => names.any(r),
        3 | 4 => r.number().to_string(),
        5 => {
            let n = r.number();
            let old = line.get(start..end).unwrap_or_default();
            // Inside brackets an offset: elsewhere it is an error like others.
            format!("{old}+{n}")
        }
        6 => (*r.of(OPERANDS)).to_owned(),
        _ => {
            let (s, e) = *r.of(&all);
            line.get(s..e).unwrap_or_default().to_owned()
        }
    };
    line.replace_range(start..end, &new);
}

fn guard(r: &mut Random, line: &mut String, names: &Names) {
    let p = names.register(r, 1);
    if line.trim_start().starts_with('@') {
        if let Some((_, rest)) = line.trim_start().split_once(' ') {
            *line = rest.to_owned();
        }
    } else {
        let not = if r.one_in(2) { "!" } else { "" };
        *line = format!("@{not}{p} {line}");
    }
}

/// Another number in a line.
fn number(r: &mut Random, line: &mut String) {
    let digits: Vec<(usize, usize)> = words(line)
        .into_iter()
        .filter(|(s, e)| {
            line.get(*s..*e)
                .is_some_and(|w| w.bytes().all(|b| b.is_ascii_digit()))
        })
        .collect();
    if let Some(&(s, e)) = digits.get(r.below(digits.len())) {
        let new = match r.below(4) {
            0 => r.number().to_string(),
            1 => r.number().unsigned_abs().to_string(),
            2 => (1u64 << r.below(40)).to_string(),
            _ => r.below(300).to_string(),
        };
        line.replace_range(s..e, &new);
    }
}
