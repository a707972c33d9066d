//! Statements of PTX, with the registers in them as places that registers of another text can take.

use std::collections::BTreeMap;

use crate::random::Random;

/// Bits of registers that fit each other: predicates are 1.
type Class = u32;

/// The registers and labels of a text.
#[derive(Default)]
pub struct Names {
    /// Class of each name; `%r<8>` stands as `%r` with a count.
    classes: BTreeMap<String, (Class, u32)>,
    /// By class: names in full.
    by_class: BTreeMap<Class, Vec<String>>,
    /// Labels.
    pub labels: Vec<String>,
}

fn class(ty: &str) -> Option<Class> {
    Some(match ty {
        "pred" => 1,
        _ => match ty.trim_start_matches(|c: char| c.is_ascii_lowercase()) {
            "8" => 8,
            "16" => 16,
            "32" | "16x2" => 32,
            "64" => 64,
            "128" => 128,
            _ => return None,
        },
    })
}

/// Most names of one declaration that are chosen from.
const MAX_NAMES: u32 = 64;

impl Names {
    /// Those of a text.
    pub fn of(text: &str) -> Names {
        let mut names = Names::default();
        for part in text.split([';', '\n', '{', '}']) {
            let part = part.trim();
            if let Some(label) = part.strip_suffix(':') {
                if label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_$%".contains(c))
                {
                    names.labels.push(label.to_owned());
                }
                continue;
            }
            let Some(declared) = part.strip_prefix(".reg") else {
                continue;
            };
            let mut words = declared.split([' ', '\t', ',']).filter(|w| !w.is_empty());
            let Some(class) = words
                .next()
                .and_then(|ty| class(ty.trim_start_matches('.')))
            else {
                continue;
            };
            for word in words {
                let (name, count) = match word.split_once('<') {
                    Some((name, n)) => (name, n.trim_end_matches('>').parse().unwrap_or(0)),
                    None => (word, 0),
                };
                names.classes.insert(name.to_owned(), (class, count));
                let all = names.by_class.entry(class).or_default();
                if word.contains('<') {
                    all.extend((0..count.min(MAX_NAMES)).map(|k| format!("{name}{k}")));
                } else {
                    all.push(name.to_owned());
                }
            }
        }
        names
    }

    fn class(&self, name: &str) -> Option<Class> {
        if let Some((c, _)) = self.classes.get(name) {
            return Some(*c);
        }
        let base = name.trim_end_matches(|c: char| c.is_ascii_digit());
        self.classes.get(base).map(|(c, _)| *c)
    }

    /// A register of a class; where there is none, one that nothing declares.
    pub fn register(&self, r: &mut Random, class: Class) -> String {
        match self.by_class.get(&class) {
            Some(all) if !all.is_empty() => r.of(all).clone(),
            _ => format!("%none{class}"),
        }
    }

    /// A register of any class.
    pub fn any(&self, r: &mut Random) -> String {
        let classes: Vec<_> = self.by_class.keys().copied().collect();
        if classes.is_empty() {
            return "%none".to_owned();
        }
        let class = *r.of(&classes);
        self.register(r, class)
    }
}

/// A statement. In its pattern, `\x01` and a class's bits and `\x01` stand for a register.
#[derive(Clone, Debug)]
pub struct Statement(String);

/// Whether a character belongs to a name.
pub fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_$%".contains(c)
}

impl Statement {
    /// Out of a line; none for declarations, labels and braces.
    pub fn parse(line: &str, names: &Names) -> Option<Statement> {
        let line = line.trim();
        let body = line
            .strip_suffix(';')?
            .trim_start_matches(['{', '}', ' ', '\t']);
        if body.is_empty() || body.starts_with('.') || body.contains(':') || body.contains('"') {
            return None;
        }
        let mut pattern = String::new();
        let mut rest = body;
        while let Some(at) = rest.find(in_name) {
            let (before, from) = rest.split_at(at);
            let end = from.find(|c| !in_name(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            pattern.push_str(before);
            match names.class(word) {
                Some(c) => pattern.push_str(&format!("\x01{c}\x01")),
                None => pattern.push_str(word),
            }
            rest = after;
        }
        pattern.push_str(rest);
        pattern.push(';');
        Some(Statement(pattern))
    }

    /// The text with places in it.
    pub fn pattern(&self) -> &str {
        &self.0
    }

    /// Its opcode with modifiers.
    pub fn opcode(&self) -> &str {
        let text = match self.0.strip_prefix('@') {
            Some(guarded) => guarded.split_once(' ').map_or("", |(_, t)| t.trim_start()),
            None => &self.0,
        };
        text.split([' ', '\t', ';']).next().unwrap_or_default()
    }

    /// With registers of another text.
    pub fn with(&self, r: &mut Random, names: &Names) -> String {
        let mut out = String::new();
        for (k, part) in self.0.split('\x01').enumerate() {
            match part.parse::<Class>() {
                Ok(class) if k % 2 == 1 => out.push_str(&names.register(r, class)),
                _ => out.push_str(part),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        ".reg .pred %p<4>, %pz; .reg .b32 %r<3>;\n.reg .f64 %fd<2>;\nL1:\nadd.u32 %r1, %r2, 4;";

    #[test]
    fn registers_become_places_and_places_registers() {
        let names = Names::of(TEXT);
        assert_eq!(names.labels, ["L1"]);
        let s = Statement::parse("@!%p1 fma.rn.f64 %fd1, %fd0, 0d00, %r2;", &names).unwrap();
        assert_eq!(s.opcode(), "fma.rn.f64");
        assert_eq!(
            s.pattern(),
            "@!\x011\x01 fma.rn.f64 \x0164\x01, \x0164\x01, 0d00, \x0132\x01;"
        );
        let other = Names::of(".reg .pred %q; .reg .b64 %x; .reg .u32 %y;");
        let text = s.with(&mut Random::new(1), &other);
        assert_eq!(text, "@!%q fma.rn.f64 %x, %x, 0d00, %y;");
        for none in [".reg .b32 %r<3>;", "L1:", "{", "ret"] {
            assert!(Statement::parse(none, &names).is_none(), "{none}");
        }
    }
}
