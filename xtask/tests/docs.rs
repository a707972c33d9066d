//! The documentation against the repository: links lead somewhere, files and limits that it names exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files of the repository with this extension, as paths from its root.
fn files(extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(root().join(&folder)).expect("a folder is readable");
        for entry in entries.map(|e| e.expect("a folder is readable")) {
            let path = folder.join(entry.file_name());
            let name = path.display().to_string();
            if entry.path().is_dir() {
                if !entry.file_name().to_string_lossy().starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(name);
            }
        }
    }
    found.sort();
    found
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What stands between two marks, each time.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open)
        .skip(1)
        .filter_map(|rest| rest.split(close).next())
        .collect()
}

/// The name that a heading has in a link.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in files("md") {
        for link in between(&text(&page), "](", ")") {
            if link.contains("://") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => PathBuf::from(&page),
                file => Path::new(&page)
                    .parent()
                    .unwrap_or(Path::new(""))
                    .join(file),
            };
            let found = root().join(&target).exists()
                && (section.is_empty()
                    || text(&target)
                        .lines()
                        .any(|l| l.starts_with('#') && anchor(l) == section));
            if !found {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn expand(path: &str) -> Vec<String> {
    match (path.split_once('{'), path.split_once('}')) {
        (Some((before, _)), Some((_, after))) => between(path, "{", "}")[0]
            .split(',')
            .map(|middle| format!("{before}{middle}{after}"))
            .collect(),
        _ => vec![path.to_owned()],
    }
}

#[test]
fn files_that_allow_unsafe_blocks_are_those_of_the_list() {
    let page = text("docs/architecture.md");
    let (_, section) = page
        .split_once("## Where unsafe code is")
        .expect("the section is there");
    let listed: BTreeSet<String> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(|cell| between(cell, "`", "`").into_iter().step_by(2))
        .flat_map(expand)
        .collect();
    let lint = concat!("unsafe", "_code");
    let allowed: BTreeSet<String> = files("rs")
        .into_iter()
        .filter(|file| text(file).contains(lint))
        .collect();
    assert_eq!(listed, allowed);
}

#[test]
fn limits_that_the_documentation_names_exist() {
    let code: String = files("rs").iter().map(text).collect();
    let names: BTreeSet<&str> = code
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .collect();
    for page in ["docs/threat-model.md", "docs/architecture.md", "README.md"] {
        let page_text = text(page);
        // Blocks of code have marks of three.
        let prose = page_text.replace("```", "\n");
        for word in between(&prose, "`", "`").into_iter().step_by(2) {
            let limit = ["MAX_", "MIN_"].iter().any(|p| word.starts_with(p));
            assert!(
                !limit || names.contains(word),
                "{page}: no constant {word} in the code"
            );
        }
    }
}
