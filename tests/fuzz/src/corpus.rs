//! What mutations begin with: PTX texts that are right, and the statements that they are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use vgpu_ptx_cases::{End, modules};

use crate::statement::{Names, Statement};

/// Texts above this are left out: one would take the time of a hundred others.
const MAX_TEXT_BYTES: usize = 400 << 10;
/// Most statements that are kept: more say nothing new.
const MAX_STATEMENTS: usize = 60_000;

/// Texts and their parts.
pub struct Corpus {
    /// PTX texts, most of them with one kernel.
    pub texts: Vec<String>,
    /// Statements with places for registers.
    pub statements: Vec<Statement>,
    /// Opcodes with modifiers, by mnemonic.
    pub opcodes: BTreeMap<String, Vec<String>>,
    /// Modifiers and types: `.u32`, `.v4`, `.relaxed`.
    pub modifiers: Vec<String>,
}

impl Corpus {
    /// The project's own cases, and the PTX in files and folders (texts, fatbins and programs).
    pub fn collect(paths: &[impl AsRef<Path>]) -> Result<Corpus> {
        let mut texts = Vec::new();
        for form in vgpu_ptx_cases::all() {
            if form.end == End::Refused {
                continue;
            }
            let (version, sm) = form.needs;
            let sm = if (91..=200).contains(&sm) { 90 } else { sm };
            for whole in [false, true] {
                if !whole || form.alone {
                    texts.push(modules::head((version, sm)) + &form.kernel("k", whole));
                }
            }
        }
        for path in paths {
            add(path.as_ref(), &mut texts)?;
        }
        Ok(Corpus::of(texts))
    }

    /// Of given texts.
    pub fn of(texts: Vec<String>) -> Corpus {
        let mut seen = BTreeSet::new();
        let mut corpus = Corpus {
            texts: Vec::new(),
            statements: Vec::new(),
            opcodes: BTreeMap::new(),
            modifiers: Vec::new(),
        };
        let mut modifiers = BTreeSet::new();
        let mut opcodes: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for text in texts {
            let names = Names::of(&text);
            for line in text.lines() {
                for part in line.split_inclusive(';') {
                    let Some(statement) = Statement::parse(part, &names) else {
                        continue;
                    };
                    let opcode = statement.opcode();
                    let mut words = opcode.split('.');
                    let mnemonic = words.next().unwrap_or_default();
                    modifiers.extend(words.map(|w| format!(".{w}")));
                    opcodes
                        .entry(mnemonic.to_owned())
                        .or_default()
                        .insert(opcode.to_owned());
                    if corpus.statements.len() < MAX_STATEMENTS
                        && seen.insert(statement.pattern().to_owned())
                    {
                        corpus.statements.push(statement);
                    }
                }
            }
            corpus.texts.push(text);
        }
        corpus.modifiers = modifiers.into_iter().collect();
        corpus.opcodes = opcodes
            .into_iter()
            .map(|(k, v)| (k, v.into_iter().collect()))
            .collect();
        corpus
    }
}

fn add(path: &Path, texts: &mut Vec<String>) -> Result<()> {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path)
            .with_context(|| format!("list {}", path.display()))?
            .collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::path);
        return entries.iter().try_for_each(|e| add(&e.path(), texts));
    }
    let file = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    for image in vgpu_soft_gpu::ptx_images(&file).unwrap_or_default() {
        if image.sm <= 90 {
            split(&image.text, texts);
        }
    }
    Ok(())
}

/// A text as texts of one kernel each, all with what stands outside of kernels.
fn split(text: &str, texts: &mut Vec<String>) {
    let (mut common, mut kernels) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = entry_start(rest) {
        let (before, from) = rest.split_at(at);
        common.push_str(before);
        let Some(end) = body_end(from) else { break };
        let (kernel, after) = from.split_at(end);
        kernels.push(kernel);
        rest = after;
    }
    common.push_str(rest);
    for kernel in kernels {
        let one = format!("{common}\n{kernel}\n");
        if one.len() <= MAX_TEXT_BYTES {
            texts.push(one);
        }
    }
}

fn entry_start(text: &str) -> Option<usize> {
    let at = text.find(".entry")?;
    let line = text.get(..at)?.rfind('\n').map_or(0, |n| n + 1);
    Some(line)
}

fn body_end(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_split_by_kernel() {
        let mut texts = Vec::new();
        let text = ".version 8.0\n.global .u32 g;\n.visible .entry a()\n{\n{ret;}\n}\n.func f() { ret; }\n.entry b() { ret; }\n";
        split(text, &mut texts);
        assert_eq!(texts.len(), 2);
        for t in &texts {
            assert!(t.contains(".global") && t.contains(".func f"), "{t}");
        }
        assert!(texts[0].contains("entry a") && !texts[0].contains("entry b"));
    }

    #[test]
    fn the_table_of_cases_is_in_it() {
        let corpus = Corpus::collect(&[] as &[&str]).unwrap();
        assert!(corpus.texts.len() > 1000);
        assert!(corpus.opcodes.len() > 90, "{}", corpus.opcodes.len());
        assert!(corpus.modifiers.iter().any(|m| m == ".relaxed"));
    }
}
