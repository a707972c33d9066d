//! `printf`'s conversions (CUDA C++ Programming Guide, "Formatted Output"): flags `-+ #0`, width as
//! a number or `*`, precision, sizes `hh h l ll z j t L`, and types `%cdiouxXpeEfFgGaAs`.

/// Longest width or precision that is carried out; the text of one call is bounded by the FIFO.
const MAX_FIELD: usize = 64 << 20;

/// Where arguments and strings come from.
pub trait Arguments {
    /// The next argument of 4 or 8 bytes.
    fn next(&mut self, bytes: u64) -> Option<u64>;
    /// The device string at an address, without its NUL, at most `max` bytes of it.
    fn string(&mut self, at: u64, max: usize) -> Option<Vec<u8>>;
}

/// Flags, width and precision of a conversion.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alt: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// Formats; returns the text and how many arguments were used, or none if an argument cannot be
/// read or the text would be longer than `limit`.
pub fn format(fmt: &[u8], args: &mut dyn Arguments, limit: usize) -> Option<(Vec<u8>, u32)> {
    let mut out = Vec::with_capacity(fmt.len());
    let mut used = 0;
    let mut rest = fmt;
    while let Some((&c, tail)) = rest.split_first() {
        if out.len() > limit {
            return None;
        }
        if c != b'%' {
            out.push(c);
            rest = tail;
            continue;
        }
        match conversion(tail, args, &mut used, limit)? {
            Some((text, after)) => {
                if text.len() > limit {
                    return None;
                }
                out.extend(text);
                rest = after;
            }
            // Not a conversion: it appears as it stands.
            None => {
                out.push(c);
                rest = tail;
            }
        }
    }
    (out.len() <= limit).then_some((out, used))
}

/// A text, and what follows its conversion.
type Converted<'a> = Option<(Vec<u8>, &'a [u8])>;

fn conversion<'a>(
    mut s: &'a [u8],
    args: &mut dyn Arguments,
    used: &mut u32,
    limit: usize,
) -> Option<Converted<'a>> {
    let mut spec = Spec::default();
    while let Some((&c, tail)) = s.split_first() {
        match c {
            b'-' => spec.left = true,
            b'+' => spec.plus = true,
            b' ' => spec.space = true,
            b'#' => spec.alt = true,
            b'0' => spec.zero = true,
            _ => break,
        }
        s = tail;
    }
    let mut next = |bytes: u64, used: &mut u32| {
        *used += 1;
        args.next(bytes)
    };
    if let Some(tail) = s.strip_prefix(b"*") {
        let w = i64::from(next(4, used)? as i32);
        spec.left |= w < 0;
        spec.width = w.unsigned_abs() as usize;
        s = tail;
    } else {
        (spec.width, s) = number(s);
    }
    if let Some(tail) = s.strip_prefix(b".") {
        if let Some(tail) = tail.strip_prefix(b"*") {
            let p = next(4, used)? as i32;
            spec.precision = usize::try_from(p).ok();
            s = tail;
        } else {
            let (p, tail) = number(tail);
            spec.precision = Some(p);
            s = tail;
        }
    }
    if spec.width > MAX_FIELD.min(limit) || spec.precision.is_some_and(|p| p > MAX_FIELD.min(limit))
    {
        return None;
    }
    let sizes = s
        .iter()
        .take_while(|c| matches!(c, b'h' | b'l' | b'z' | b'j' | b't' | b'L' | b'q'))
        .count();
    let (size, s) = s.split_at(sizes);
    let wide = size
        .iter()
        .any(|c| matches!(c, b'l' | b'z' | b'j' | b't' | b'q'));
    let Some((&kind, s)) = s.split_first() else {
        return Some(None);
    };
    let int_bytes = if wide { 8 } else { 4 };
    let text = match kind {
        b'%' => b"%".to_vec(),
        b'd' | b'i' => {
            let raw = next(int_bytes, used)?;
            let v = match (wide, size) {
                (true, _) => raw as i64,
                (_, b"h") => i64::from(raw as i16),
                (_, b"hh") => i64::from(raw as i8),
                _ => i64::from(raw as i32),
            };
            let sign = spec.sign(v < 0);
            spec.integer(sign, v.unsigned_abs().to_string())
        }
        b'u' | b'o' | b'x' | b'X' => {
            let raw = next(int_bytes, used)?;
            let v = match (wide, size) {
                (true, _) => raw,
                (_, b"h") => u64::from(raw as u16),
                (_, b"hh") => u64::from(raw as u8),
                _ => u64::from(raw as u32),
            };
            let (prefix, digits) = match kind {
                b'u' => ("", v.to_string()),
                b'o' => ("", format!("{v:o}")),
                b'x' if spec.alt && v != 0 => ("0x", format!("{v:x}")),
                b'X' if spec.alt && v != 0 => ("0X", format!("{v:X}")),
                b'x' => ("", format!("{v:x}")),
                _ => ("", format!("{v:X}")),
            };
            let octal = kind == b'o' && spec.alt && !digits.starts_with('0');
            let digits = if octal && spec.precision.is_none_or(|p| p <= digits.len()) {
                format!("0{digits}")
            } else {
                digits
            };
            spec.integer(prefix, digits)
        }
        b'c' => {
            let c = next(4, used)? as u8;
            spec.pad("", vec![c], false)
        }
        b'p' => {
            let v = next(8, used)?;
            if v == 0 {
                spec.pad("", b"(nil)".to_vec(), false)
            } else {
                spec.pad("0x", format!("{v:x}").into_bytes(), false)
            }
        }
        b's' => {
            let at = next(8, used)?;
            let max = spec.precision.unwrap_or(limit.saturating_add(1));
            let text = if at == 0 {
                b"(null)".to_vec()
            } else {
                args.string(at, max)?
            };
            let cut = text.len().min(max);
            spec.pad("", text.get(..cut).unwrap_or(&text).to_vec(), false)
        }
        b'e' | b'E' | b'f' | b'F' | b'g' | b'G' | b'a' | b'A' => {
            let v = f64::from_bits(next(8, used)?);
            spec.float(kind, v)
        }
        _ => return Some(None),
    };
    Some(Some((text, s)))
}

fn number(s: &[u8]) -> (usize, &[u8]) {
    let n = s.iter().take_while(|c| c.is_ascii_digit()).count();
    let (digits, rest) = s.split_at(n);
    let v = digits.iter().fold(0usize, |v, d| {
        v.saturating_mul(10).saturating_add(usize::from(d - b'0'))
    });
    (v, rest)
}

impl Spec {
    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }

    /// Pads to the width; zeros go between the sign or prefix and the digits.
    fn pad(&self, prefix: &str, body: Vec<u8>, zeros: bool) -> Vec<u8> {
        let missing = self.width.saturating_sub(prefix.len() + body.len());
        let mut out = Vec::with_capacity(missing + prefix.len() + body.len());
        let fill = zeros && self.zero && !self.left;
        if !fill && !self.left {
            out.resize(missing, b' ');
        }
        out.extend_from_slice(prefix.as_bytes());
        if fill {
            out.resize(out.len() + missing, b'0');
        }
        out.extend(body);
        if self.left {
            out.resize(out.len() + missing, b' ');
        }
        out
    }

    fn integer(&self, prefix: &str, digits: String) -> Vec<u8> {
        let digits = match self.precision {
            Some(0) if digits == "0" => String::new(),
            Some(p) => "0".repeat(p.saturating_sub(digits.len())) + &digits,
            None => digits,
        };
        self.pad(prefix, digits.into_bytes(), self.precision.is_none())
    }

    fn float(&self, kind: u8, v: f64) -> Vec<u8> {
        let sign = self.sign(v.is_sign_negative());
        let upper = kind.is_ascii_uppercase();
        let a = v.abs();
        if !a.is_finite() {
            let text = if a.is_nan() { "nan" } else { "inf" };
            let text = if upper {
                text.to_uppercase()
            } else {
                text.into()
            };
            return self.pad(sign, text.into_bytes(), false);
        }
        let p = self.precision.unwrap_or(6);
        let mut prefix = sign.to_string();
        let text = match kind.to_ascii_lowercase() {
            b'f' => fixed(a, p, self.alt),
            b'e' => exponent(a, p, self.alt),
            b'g' => general(a, p.max(1), self.alt),
            _ => {
                prefix += "0x";
                hexadecimal(a, self.precision, self.alt)
            }
        };
        let text = if upper { text.to_uppercase() } else { text };
        if upper {
            prefix = prefix.to_uppercase();
        }
        self.pad(&prefix, text.into_bytes(), true)
    }
}

/// More digits than any double has: all after them are zero. Formatting takes no precision above 65,535.
const MAX_DIGITS: usize = 1100;

fn fixed(a: f64, p: usize, point: bool) -> String {
    let dot = if p == 0 && point { "." } else { "" };
    let (known, zeros) = (p.min(MAX_DIGITS), p.saturating_sub(MAX_DIGITS));
    format!("{a:.known$}{dot}") + &"0".repeat(zeros)
}

/// Digits with a point, and the decimal exponent.
fn scientific(a: f64, p: usize) -> (String, i32) {
    let (known, zeros) = (p.min(MAX_DIGITS), p.saturating_sub(MAX_DIGITS));
    let text = format!("{a:.known$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.to_string() + &"0".repeat(zeros);
    (digits, exponent.parse().unwrap_or(0))
}

fn exponent(a: f64, p: usize, point: bool) -> String {
    let (digits, e) = scientific(a, p);
    let dot = if p == 0 && point { "." } else { "" };
    let sign = if e < 0 { '-' } else { '+' };
    format!("{digits}{dot}e{sign}{:02}", e.abs())
}

fn general(a: f64, p: usize, keep: bool) -> String {
    let (_, e) = scientific(a, p - 1);
    let trim = |s: String| {
        if keep || !s.contains('.') {
            s
        } else {
            s.trim_end_matches('0').trim_end_matches('.').to_string()
        }
    };
    if e >= -4 && i64::from(e) < p as i64 {
        let after = (p as i64 - 1 - i64::from(e)) as usize;
        return trim(fixed(a, after, keep));
    }
    let text = exponent(a, p - 1, keep);
    match text.split_once('e') {
        Some((digits, e)) => format!("{}e{e}", trim(digits.to_string())),
        None => text,
    }
}

fn hexadecimal(a: f64, precision: Option<usize>, point: bool) -> String {
    let bits = a.to_bits();
    let mut fraction = bits & ((1 << 52) - 1);
    let biased = (bits >> 52) as i32;
    let (mut lead, e) = match (biased, fraction) {
        (0, 0) => (0u64, 0),
        (0, _) => (0, -1022),
        _ => (1, biased - 1023),
    };
    let mut digits = 13;
    if let Some(p) = precision.filter(|&p| p < 13) {
        // Round to nearest, ties to even, in units of the last digit kept.
        let drop = 52 - 4 * p as u32;
        let all = (lead << 52) | fraction;
        let (kept, rest) = (all >> drop, all & ((1 << drop) - 1));
        let half = 1 << (drop - 1);
        let up = rest > half || (rest == half && kept & 1 == 1);
        let rounded = (kept + u64::from(up)) << drop;
        lead = rounded >> 52;
        fraction = rounded & ((1 << 52) - 1);
        digits = p;
    }
    let text = format!("{fraction:013x}");
    let text = match precision {
        None => text.trim_end_matches('0').to_string(),
        Some(p) if p > 13 => text + &"0".repeat(p - 13),
        Some(_) => text.get(..digits).unwrap_or("").to_string(),
    };
    let dot = if text.is_empty() && !point { "" } else { "." };
    let sign = if e < 0 { '-' } else { '+' };
    format!("{lead}{dot}{text}p{sign}{}", e.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct List(Vec<u64>);

    impl Arguments for List {
        fn next(&mut self, _: u64) -> Option<u64> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }
        fn string(&mut self, at: u64, max: usize) -> Option<Vec<u8>> {
            let text = ["", "device", "text"].get(at as usize)?;
            Some(text.bytes().take(max).collect())
        }
    }

    fn show(fmt: &str, args: &[u64]) -> String {
        let (text, used) = format(fmt.as_bytes(), &mut List(args.to_vec()), 1000).unwrap();
        assert_eq!(used as usize, args.len(), "{fmt}");
        String::from_utf8(text).unwrap()
    }

    fn f(v: f64) -> u64 {
        v.to_bits()
    }

    #[test]
    fn a_precision_may_be_as_long_as_the_text() {
        for p in [1099, 1100, 1101, 65_535, 65_536, 900_000] {
            for kind in ["f", "e", "a", "g", "#g", "d"] {
                let (flag, kind) = kind.split_at(kind.len() - 1);
                let fmt = format!("%{flag}.{p}{kind}");
                let arg = if kind == "d" { 3 } else { f(0.5) };
                let (text, _) = format(fmt.as_bytes(), &mut List(vec![arg]), 1 << 20).unwrap();
                let text = String::from_utf8(text).unwrap();
                let (start, end, more) = match (flag, kind) {
                    (_, "f") => ("0.50", "00", 2),
                    (_, "e") => ("5.00", "e-01", 6),
                    (_, "a") => ("0x1.00", "p-1", 7),
                    ("", "g") => {
                        assert_eq!(text, "0.5");
                        continue;
                    }
                    ("#", _) => ("0.50", "00", 2),
                    _ => ("00", "03", 0),
                };
                assert!(text.starts_with(start) && text.ends_with(end), "{fmt}");
                assert_eq!(text.len(), p + more, "{fmt}");
            }
        }
    }

    #[test]
    fn integers() {
        // Expected texts are those of glibc's printf.
        assert_eq!(
            show("%d|%5d|%-5d|%05d", &[1, 2, 3, 4]),
            "1|    2|3    |00004"
        );
        assert_eq!(show("%+d % d %d", &[1, 2, -3i64 as u64]), "+1  2 -3");
        assert_eq!(
            show("%.3d|%5.3d|%-6.3d|%.0d", &[7, 7, 7, 0]),
            "007|  007|007   |"
        );
        assert_eq!(
            show("%u %x %X %o", &[0xffff_ffff, 255, 255, 8]),
            "4294967295 ff FF 10"
        );
        assert_eq!(
            show("%#x %#X %#o %#x", &[255, 255, 8, 0]),
            "0xff 0XFF 010 0"
        );
        assert_eq!(show("%#08x|%#8x", &[255, 255]), "0x0000ff|    0xff");
        assert_eq!(
            show("%lld %llu %lx", &[u64::MAX, u64::MAX, 1 << 40]),
            "-1 18446744073709551615 10000000000"
        );
        assert_eq!(show("%hd %hhu", &[0x1_ffff, 0x1ff]), "-1 255");
        assert_eq!(
            show("%*d|%*d|%.*d", &[4, 5, -4i32 as u32 as u64, 5, 3, 5]),
            "   5|5   |005"
        );
        assert_eq!(show("100%% %c%c", &[b'o'.into(), b'k'.into()]), "100% ok");
        assert_eq!(
            show("%p %p %12p", &[0, 0xabc, 0xabc]),
            "(nil) 0xabc        0xabc"
        );
        assert_eq!(show("%zu %jd %td", &[1, 2, 3]), "1 2 3");
    }

    #[test]
    fn strings() {
        assert_eq!(
            show("[%s] [%10s] [%-10s] [%.3s] [%s]", &[1, 1, 1, 1, 0]),
            "[device] [    device] [device    ] [dev] [(null)]"
        );
    }

    #[test]
    fn floats() {
        assert_eq!(
            show("%f %.2f %.0f %#.0f", &[f(1.5), f(2.345), f(2.5), f(3.0)]),
            "1.500000 2.35 2 3."
        );
        assert_eq!(
            show("%e %E %.0e", &[f(12345.678), f(1e-300), f(5.0)]),
            "1.234568e+04 1.000000E-300 5e+00"
        );
        assert_eq!(
            show(
                "%g %g %g %g %g %#g",
                &[f(0.0001), f(0.00001), f(100000.0), f(1e6), f(0.1), f(1.0)]
            ),
            "0.0001 1e-05 100000 1e+06 0.1 1.00000"
        );
        assert_eq!(
            show(
                "%8.3f|%-8.3f|%08.3f|%+.1f",
                &[f(-1.5), f(1.5), f(-1.5), f(1.0)]
            ),
            "  -1.500|1.500   |-001.500|+1.0"
        );
        assert_eq!(
            show(
                "%f %F %e %08f",
                &[
                    f(f64::INFINITY),
                    f(f64::NAN),
                    f(-f64::INFINITY),
                    f(f64::INFINITY)
                ]
            ),
            "inf NAN -inf      inf"
        );
        assert_eq!(
            show(
                "%a %a %A %.1a %.0a %a",
                &[f(1.0), f(0.1), f(10.5), f(1.97), f(1.5), f(0.0)]
            ),
            "0x1p+0 0x1.999999999999ap-4 0X1.5P+3 0x2.0p+0 0x2p+0 0x0p+0"
        );
        assert_eq!(show("%g", &[f(1e100)]), "1e+100");
    }

    #[test]
    fn what_is_no_conversion_stays() {
        assert_eq!(show("%y %", &[]), "%y %");
        assert_eq!(show("50%", &[]), "50%");
    }

    #[test]
    fn long_texts_and_missing_arguments_are_refused() {
        let refused = |fmt: &str, args: &[u64]| {
            format(fmt.as_bytes(), &mut List(args.to_vec()), 100).is_none()
        };
        assert!(refused("%d", &[]));
        assert!(refused("%101d", &[1]));
        assert!(!refused("%100d", &[1]));
        assert!(refused("%99999999999999999999d", &[1]));
        assert!(refused("%.101f", &[0]));
        assert!(refused("%s", &[9]));
        assert!(refused(&"x".repeat(101), &[]));
        assert!(!refused(&"x".repeat(100), &[]));
    }
}
