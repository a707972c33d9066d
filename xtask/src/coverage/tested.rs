//! Which functions the test programs and the crates' own tests call: the names that stand in their sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// Lists of functions that test programs call: a test fails where one was not.
const LISTS: &[&str] = &[
    "tests/programs/src/blas/called.txt",
    "tests/programs/src/blas/lt/called.txt",
    "tests/programs/cudart/nvcc.txt",
];

/// What a program's first line says that calls the twins for the default stream of the thread.
const PER_THREAD: &str = "-default-stream per-thread";

/// Folders and files with programs and tests.
const SOURCES: &[&str] = &[
    "tests/programs",
    "tests/abi/static_runtime.cu",
    "guest-shim/libcuda/src/tests.rs",
    "guest-shim/libcuda/src/tests",
    "guest-shim/nvml/src/tests.rs",
    "guest-shim/nvidia-smi/src",
];

/// The names.
pub struct Tested {
    words: BTreeSet<String>,
    /// Names that a program makes of a format, such as `cublas{t}gemmBatched`: what is around the braces.
    formats: BTreeSet<Vec<String>>,
}

impl Tested {
    /// Reads the sources.
    pub fn read() -> Result<Tested> {
        let mut tested = Tested {
            words: BTreeSet::new(),
            formats: BTreeSet::new(),
        };
        for source in SOURCES {
            tested.add(&workspace::root().join(source))?;
        }
        for list in LISTS {
            let text = fs::read_to_string(workspace::root().join(list));
            let text = text.with_context(|| format!("read {list}"))?;
            tested.words.extend(text.lines().map(str::to_owned));
        }
        Ok(tested)
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("list {}", path.display()))?;
            let paths: Vec<PathBuf> = entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<_>>()?;
            return paths.iter().try_for_each(|path| self.add(path));
        }
        if path
            .extension()
            .is_some_and(|e| ["rs", "c", "cu", "h"].iter().any(|wanted| e == *wanted))
        {
            let text =
                fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            self.text(&text);
            if text.lines().next().is_some_and(|l| l.contains(PER_THREAD)) {
                self.twins(&text);
                let includes = text.lines().filter_map(|l| l.strip_prefix("#include \""));
                for name in includes.filter_map(|l| l.strip_suffix('"')) {
                    let path = path.with_file_name(name);
                    self.twins(&fs::read_to_string(path).with_context(|| name.to_owned())?);
                }
            }
        }
        Ok(())
    }

    /// The names' twins: the headers make them of the names.
    fn twins(&mut self, text: &str) {
        for word in words(text) {
            for twin in ["_ptsz", "_ptds"] {
                self.words.insert(format!("{word}{twin}"));
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.words.extend(words(text).map(str::to_owned));
        for format in text
            .split('"')
            .filter(|part| part.starts_with("cublas") && part.contains('{'))
        {
            let parts: Vec<String> = format
                .split('{')
                .enumerate()
                .map(|(i, part)| match i {
                    0 => part,
                    _ => part.split_once('}').map_or("", |(_, rest)| rest),
                })
                .map(str::to_owned)
                .collect();
            // Text around the braces that says little would be true of everything.
            let fixed: usize = parts.iter().skip(1).map(String::len).sum();
            let plain = |part: &String| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if fixed >= 3 && parts.iter().all(plain) {
                self.formats.insert(parts);
            }
        }
    }

    /// Whether a program or a test calls the function.
    pub fn has(&self, name: &str) -> bool {
        self.words.contains(name) || self.formats.iter().any(|parts| matches(parts, name))
    }
}

/// Words that may be names of functions.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.contains("cu") || word.starts_with("nvml"))
}

/// Whether the parts stand in the name in their order, from its beginning to its end, with at most four letters for
/// each pair of braces.
fn matches(parts: &[String], name: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return false;
    };
    name.strip_prefix(first.as_str())
        .is_some_and(|name| follows(rest, name))
}

fn follows(parts: &[String], name: &str) -> bool {
    let Some((part, rest)) = parts.split_first() else {
        return name.is_empty();
    };
    (0..=4.min(name.len())).any(|letters| {
        name.get(letters..)
            .and_then(|name| name.strip_prefix(part.as_str()))
            .is_some_and(|name| follows(rest, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_or_made_of_formats() {
        let mut tested = Tested {
            words: BTreeSet::new(),
            formats: BTreeSet::new(),
        };
        tested.text("call!(cuInit(0)); let name = format!(\"cublas{t}gemm{version}\"); f(\"cublas{t}{family}{}\")");
        assert!(tested.has("cuInit") && !tested.has("cuInitX"));
        assert!(tested.has("cublasSgemm_v2") && tested.has("cublasHgemm"));
        assert!(!tested.has("cublasSgemmStridedBatched") && !tested.has("cublasSsymm_v2"));
    }
}
