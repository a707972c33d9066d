//! Adds the device to a QEMU source tree: `meson-snippets/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cache::write_if_changed;
use crate::workspace;

/// The device's own folder in QEMU's tree; all its files come from `meson-snippets/`.
const FOLDER: &str = "hw/vgpu";

/// What `apply` did.
pub struct Applied {
    changed: Vec<String>,
}

impl Applied {
    /// Whether the tree is as it was.
    pub fn nothing(&self) -> bool {
        self.changed.is_empty()
    }

    /// Tells the user.
    pub fn report(&self, tree: &Path) {
        if self.nothing() {
            println!("{}: the device is there already", tree.display());
        } else {
            println!("{}: changed {}", tree.display(), self.changed.join(", "));
        }
    }
}

/// Adds or updates the device in a tree. Run on a tree that has it, it changes nothing.
pub fn apply(tree: &Path) -> Result<Applied> {
    let edits = Edits::load()?;
    // All edits are worked out before the first file is written: all or nothing.
    let mut files = Vec::new();
    for path in edits.files() {
        let file = tree.join(&path);
        let text = fs::read_to_string(&file).with_context(|| {
            format!(
                "{}: is {} a QEMU source tree?",
                file.display(),
                tree.display()
            )
        })?;
        files.push((
            path.display().to_string(),
            edits.edited(&path, &text)?.into_bytes(),
        ));
    }
    let snippets = workspace::root().join("meson-snippets").join(FOLDER);
    for entry in fs::read_dir(&snippets).with_context(|| format!("read {}", snippets.display()))? {
        let entry = entry?;
        let name = format!("{FOLDER}/{}", entry.file_name().to_string_lossy());
        files.push((name, fs::read(entry.path())?));
    }
    files.push((format!("{FOLDER}/checkout.mak"), checkout()?.into_bytes()));
    let mut changed = Vec::new();
    for (name, content) in files {
        if write_if_changed(&tree.join(&name), &content)? {
            changed.push(name);
        }
    }
    Ok(Applied { changed })
}

/// Where meson finds us and cargo.
fn checkout() -> Result<String> {
    let root = workspace::root();
    let text = format!(
        "CHECKOUT={}\nCARGO={}\n",
        root.display(),
        workspace::cargo()
    );
    ensure!(
        text.lines().count() == 2 && !text.contains(['\'', '"']),
        "the checkout or cargo lies at a path that QEMU's build system cannot take: {text}"
    );
    Ok(text)
}

/// The insertions of `meson-snippets/edits.txt`.
pub struct Edits(Vec<Edit>);

#[derive(Debug, PartialEq, Eq)]
struct Edit {
    file: PathBuf,
    place: Place,
    anchor: String,
    lines: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Place {
    Before,
    After,
}

impl Edits {
    /// Reads them from the checkout.
    pub fn load() -> Result<Edits> {
        let path = workspace::root().join("meson-snippets/edits.txt");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Edits::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Edits> {
        let mut edits: Vec<Edit> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if word == "file" {
                let (file, anchor) = (PathBuf::from(rest), String::new());
                edits.push(Edit {
                    file,
                    place: Place::Before,
                    anchor,
                    lines: Vec::new(),
                });
                continue;
            }
            let edit = edits
                .last_mut()
                .with_context(|| format!("line {number}: no file named yet"))?;
            match word {
                "before" | "after" if edit.anchor.is_empty() => {
                    edit.place = if word == "before" {
                        Place::Before
                    } else {
                        Place::After
                    };
                    edit.anchor = rest.to_owned();
                }
                "|" if !edit.anchor.is_empty() => edit.lines.push(rest.to_owned()),
                _ => bail!(
                    "line {number}: '{line}' is neither file, before, after nor |, or out of order"
                ),
            }
        }
        for edit in &edits {
            ensure!(
                !edit.lines.is_empty(),
                "the edit of {} inserts nothing",
                edit.file.display()
            );
        }
        Ok(Edits(edits))
    }

    /// The files that are edited.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        self.0.iter().map(|edit| edit.file.clone()).collect()
    }

    /// Whether a file is among them.
    pub fn concern(&self, file: &Path) -> bool {
        self.0.iter().any(|edit| edit.file == file)
    }

    /// The text of a file with its edits; where they are done already, the same text.
    pub fn edited(&self, file: &Path, text: &str) -> Result<String> {
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        for edit in self.0.iter().filter(|edit| edit.file == file) {
            edit.insert(&mut lines)?;
        }
        Ok(lines.join("\n"))
    }
}

impl Edit {
    fn insert(&self, lines: &mut Vec<String>) -> Result<()> {
        let matches = |line: &String| line.trim_start().starts_with(&self.anchor);
        let found: Vec<usize> = lines
            .iter()
            .enumerate()
            .filter(|(_, line)| matches(line))
            .map(|(at, _)| at)
            .collect();
        let [anchor] = found[..] else {
            bail!(
                "{}: the line that begins with `{}` was found {} times, and must be there once: \
                 this QEMU differs from those that meson-snippets/edits.txt was written for",
                self.file.display(),
                self.anchor,
                found.len()
            );
        };
        let (at, there) = match self.place {
            Place::Before => (anchor, lines[..anchor].ends_with(&self.lines)),
            Place::After => (anchor + 1, lines[anchor + 1..].starts_with(&self.lines)),
        };
        if there {
            return Ok(());
        }
        if let Some(old) = lines
            .iter()
            .position(|line| self.lines.contains(line) && is_ours(line))
        {
            bail!(
                "{} line {}: an older edit of ours (`{}`) is in the way: restore the file \
                 (git checkout) and run this again",
                self.file.display(),
                old + 1,
                lines[old].trim()
            );
        }
        lines.splice(at..at, self.lines.iter().cloned());
        Ok(())
    }
}

/// Our lines name the device.
fn is_ours(line: &str) -> bool {
    line.to_lowercase().replace('-', "_").contains("vgpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDITS: &str = "# comment\n\nfile a/b\nbefore two\n|   vgpu one and a half\n\nfile a/b\nafter two\n| vgpu 2\n| end\n";

    fn edited(text: &str) -> Result<String> {
        Edits::parse(EDITS).unwrap().edited(Path::new("a/b"), text)
    }

    #[test]
    fn insertion_is_made_once() {
        let once = edited("one\n  two = \\\nthree\n").unwrap();
        assert_eq!(
            once,
            "one\n  vgpu one and a half\n  two = \\\nvgpu 2\nend\nthree\n"
        );
        assert_eq!(edited(&once).unwrap(), once);
    }

    #[test]
    fn other_files_stay() {
        let edits = Edits::parse(EDITS).unwrap();
        assert!(!edits.concern(Path::new("a/c")));
        assert_eq!(edits.edited(Path::new("a/c"), "two\n").unwrap(), "two\n");
    }

    #[test]
    fn missing_anchor_is_named_with_its_file() {
        let error = edited("one\nthree\n").unwrap_err().to_string();
        assert!(
            error.contains("a/b") && error.contains("`two`") && error.contains("0 times"),
            "{error}"
        );
    }

    #[test]
    fn ambiguous_anchor_is_refused() {
        assert!(
            edited("two\ntwo\n")
                .unwrap_err()
                .to_string()
                .contains("2 times")
        );
    }

    #[test]
    fn half_an_edit_is_refused() {
        let error = edited("vgpu 2\none\ntwo\n").unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("older edit"),
            "{error}"
        );
    }

    #[test]
    fn broken_lists_are_refused() {
        for (bad, says) in [
            ("before x\n", "no file"),
            ("file x\n| y\n", "out of order"),
            ("file x\nbefore y\nbefore z\n| a\n", "out of order"),
            ("file x\nbefore y\n", "inserts nothing"),
            ("file x\nreplace y\n", "neither"),
        ] {
            let error = format!("{:#}", Edits::parse(bad).err().unwrap());
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}
