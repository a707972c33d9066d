//! Parameter layouts read from PTX, for drivers before 12.4, which do not tell them.
//!
//! Only the parameter lists of `.entry` directives are read (PTX ISA, "Kernel and Function
//! Directives: .entry" and "Parameter State Space"); a list in a form that is not known here gives
//! no layout, and the kernel is not offered.

use std::collections::HashMap;

use vgpu_protocol::limits::MAX_PARAM_BYTES;

/// Offset and size of each parameter, in bytes.
pub type Layout = Vec<(u32, u32)>;

/// The layouts of all kernels of a text, by name.
pub fn layouts(text: &str) -> HashMap<String, Layout> {
    let text = without_comments(text);
    let mut out = HashMap::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(".entry") {
        rest = &rest[at + ".entry".len()..];
        if !rest.starts_with(char::is_whitespace) {
            continue;
        }
        let end = rest.find(['(', '{', ';']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // A directive such as .maxntid may follow the name where there are no parameters.
        let Some(name) = name.split_whitespace().next() else {
            continue;
        };
        let list = match after.strip_prefix('(') {
            Some(list) => list.split_once(')').map(|(list, _)| list),
            None => Some(""),
        };
        if let Some(layout) = list.and_then(parse_list) {
            out.insert(name.to_owned(), layout);
        }
        rest = after;
    }
    out
}

fn parse_list(list: &str) -> Option<Layout> {
    let mut layout = Vec::new();
    let mut end = 0u32;
    if list.trim().is_empty() {
        return Some(layout);
    }
    for param in list.split(',') {
        let (bytes, align) = parse_param(param)?;
        let offset = end.checked_next_multiple_of(align)?;
        end = offset
            .checked_add(bytes)
            .filter(|end| *end <= MAX_PARAM_BYTES)?;
        layout.push((offset, bytes));
    }
    Some(layout)
}

/// Size and alignment of `.param [.align N] .type [.ptr [.space] [.align N]] name[[N]]`.
fn parse_param(param: &str) -> Option<(u32, u32)> {
    let spaced = param.replace('[', " [ ").replace(']', " ] ");
    let mut words = spaced.split_whitespace().peekable();
    if words.next()? != ".param" {
        return None;
    }
    let mut align = None;
    if words.peek() == Some(&".align") {
        words.next();
        align = Some(
            words
                .next()?
                .parse::<u32>()
                .ok()
                .filter(|a| a.is_power_of_two())?,
        );
    }
    let element = type_bytes(words.next()?)?;
    if words.peek() == Some(&".ptr") {
        words.next();
        // The alignment here is that of what the pointer points to.
        while words.peek().is_some_and(|w| w.starts_with('.')) {
            if words.next()? == ".align" {
                words.next()?;
            }
        }
    }
    words.next().filter(|name| !name.starts_with('.'))?;
    let count = match words.next() {
        None => 1,
        Some("[") => {
            let count = words.next()?.parse::<u32>().ok()?;
            (words.next()? == "]").then_some(count)?
        }
        Some(_) => return None,
    };
    words.next().is_none().then_some(())?;
    Some((element.checked_mul(count)?, align.unwrap_or(element)))
}

fn type_bytes(name: &str) -> Option<u32> {
    Some(match name {
        ".b8" | ".u8" | ".s8" => 1,
        ".b16" | ".u16" | ".s16" | ".f16" => 2,
        ".b32" | ".u32" | ".s32" | ".f32" | ".f16x2" => 4,
        ".b64" | ".u64" | ".s64" | ".f64" => 8,
        ".b128" => 16,
        _ => return None,
    })
}

/// The text with each comment replaced by a space.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("/*").into_iter().chain(rest.find("//")).min() {
        out.push_str(&rest[..at]);
        out.push(' ');
        let comment = &rest[at..];
        let end = if comment.starts_with("//") {
            comment.find('\n')
        } else {
            comment[2..].find("*/").map(|e| e + 4)
        };
        rest = end.and_then(|end| comment.get(end..)).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_lie_at_their_own_alignment() {
        let text = ".version 8.0\n.target sm_90\n\
            .visible .entry f(\n .param .u64 f_0, // the first, (of) many\n .param .u8 f_1,\n\
            /* .param .u64 gone, */ .param .align 8 .b8 f_2[12],\n .param .u64 .ptr .global .align 16 f_3,\n\
            .param .f32 f_4\n)\n.maxntid 256, 1, 1\n{ ret; }\n\
            .entry none()\n{ ret; }\n.entry bare .maxntid 1 { ret; }\n.entry odd(.reg .u32 x) { ret; }";
        let layouts = layouts(text);
        assert_eq!(
            layouts.get("f"),
            Some(&vec![(0, 8), (8, 1), (16, 12), (32, 8), (40, 4)])
        );
        assert_eq!(layouts.get("none"), Some(&vec![]));
        assert_eq!(layouts.get("bare"), Some(&vec![]));
        assert_eq!(layouts.get("odd"), None);
    }

    #[test]
    fn a_block_has_its_maximum_and_no_more() {
        let of = |bytes: u32| layouts(&format!(".entry k(.param .b8 p[{bytes}]) {{ ret; }}"));
        assert_eq!(
            of(MAX_PARAM_BYTES).get("k"),
            Some(&vec![(0, MAX_PARAM_BYTES)])
        );
        assert_eq!(of(MAX_PARAM_BYTES + 1).get("k"), None);
        assert_eq!(of(u32::MAX).get("k"), None);
    }

    #[test]
    fn broken_text_gives_no_layout() {
        for text in [
            "",
            ".entry",
            ".entry ",
            ".entry k(",
            ".entry k(.param",
            "/*",
            "//",
            "/",
            ".entry k(.param .u64 a[)",
        ] {
            assert_eq!(layouts(text).get("k"), None, "{text}");
        }
    }
}
