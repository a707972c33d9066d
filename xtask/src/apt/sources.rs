//! Another suite of the machine's own mirror, through a private apt configuration.
//!
//! QEMU's sources and a recent meson come from releases that the machine does not run. The
//! system's own lists stay untouched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::{Remote, print_uris, sandbox};
use crate::cache;
use crate::progress;
use crate::run;

/// How long a downloaded index is used before it is asked for again.
const INDEX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Suites that a Debian mirror has, beside the machine's own.
const DEBIAN_SUITES: &[&str] = &[
    "bookworm",
    "trixie",
    "forky",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "sid",
];

/// A suite of the machine's Debian mirror.
pub struct Suite {
    name: String,
    dir: PathBuf,
    options: Vec<String>,
}

impl Suite {
    /// The suite by its name, with an index of today; contrib holds what builds on CUDA, non-free NVIDIA's
    /// compiler.
    pub fn open(name: &str) -> Result<Suite> {
        let entry = debian_entry()?;
        let dir = cache::dir(&format!("apt/{name}"))?;
        for sub in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        let sources = dir.join("mirror.sources");
        let changed = cache::write_if_changed(
            &sources,
            entry
                .text("deb deb-src", name, "main contrib non-free")
                .as_bytes(),
        )?;
        let mut options: Vec<String> = sandbox().iter().map(ToString::to_string).collect();
        options.extend([
            format!("-oDir::Etc::sourcelist={}", sources.display()),
            "-oDir::Etc::sourceparts=-".to_owned(),
            "-oDir::Etc::preferences=-".to_owned(),
            "-oDir::Etc::preferencesparts=-".to_owned(),
            "-oAPT::Default-Release=".to_owned(),
            format!("-oDir::State::Lists={}", dir.join("lists").display()),
            format!("-oDir::Cache={}", dir.join("cache").display()),
            // A mirror that lags has an expired Release file; its signature still counts.
            "-oAcquire::Check-Valid-Until=false".to_owned(),
            "-oAcquire::Languages=none".to_owned(),
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "-oAcquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
        ]);
        let suite = Suite {
            name: name.to_owned(),
            dir,
            options,
        };
        if changed || !suite.is_fresh() {
            suite.update()?;
        }
        Ok(suite)
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    fn is_fresh(&self) -> bool {
        let modified = fs::metadata(self.stamp()).and_then(|m| m.modified());
        modified.is_ok_and(|then| {
            SystemTime::now()
                .duration_since(then)
                .is_ok_and(|age| age < INDEX_AGE)
        })
    }

    fn update(&self) -> Result<()> {
        let mut step = progress::step(&format!("package index of Debian {}", self.name));
        let mut command = Command::new("apt-get");
        command
            .args(&self.options)
            .arg("-oAPT::Update::Error-Mode=any")
            .arg("update");
        step.run(&mut command, &format!("apt-{}", self.name))?;
        fs::write(self.stamp(), "")?;
        step.done("");
        Ok(())
    }

    /// The files of a source package.
    pub fn source(&self, package: &str) -> Result<Vec<Remote>> {
        print_uris(
            &self.options,
            &["--only-source", "--download-only", "source", package],
        )
        .with_context(|| format!("source package {package} of Debian {}", self.name))
    }

    /// A binary package, unpacked below `dir`; nothing is installed.
    pub fn unpack(&self, package: &str, dir: &Path) -> Result<()> {
        // The machine may have a newer version of the package than the suite: as if it had none.
        let options = [
            self.options.as_slice(),
            &["-oDir::State::status=/dev/null".to_owned()],
        ]
        .concat();
        let files = print_uris(&options, &["download", package])
            .with_context(|| format!("package {package} of Debian {}", self.name))?;
        let file = files
            .first()
            .with_context(|| format!("Debian {} has no package {package}", self.name))?;
        let deb = file.fetch(&cache::dir("downloads")?)?;
        run::ok(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(dir))?;
        Ok(())
    }
}

/// The machine's Debian mirror as a .sources file for another suite.
pub fn mirror(suite: &str, components: &str) -> Result<String> {
    Ok(debian_entry()?.text("deb", suite, components))
}

/// An entry of the machine's apt configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: String,
    suites: Vec<String>,
    components: Vec<String>,
    binary: bool,
    /// Signed-By and what else matters for the mirror as a whole.
    other: Vec<(String, String)>,
}

impl Entry {
    /// As a .sources file for another suite.
    fn text(&self, types: &str, suite: &str, components: &str) -> String {
        let mut text = format!(
            "Types: {types}\nURIs: {}\nSuites: {suite}\nComponents: {components}\n",
            self.uris
        );
        for (name, value) in &self.other {
            text += &format!("{name}: {value}\n");
        }
        text
    }

    fn is_debian(&self) -> bool {
        self.binary
            && self.components.iter().any(|c| c == "main")
            && self
                .suites
                .iter()
                .any(|s| DEBIAN_SUITES.contains(&s.as_str()))
    }
}

/// The entry that names Debian's main archive.
fn debian_entry() -> Result<Entry> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(dir) = fs::read_dir("/etc/apt/sources.list.d") {
        let mut parts: Vec<_> = dir.flatten().map(|entry| entry.path()).collect();
        parts.sort();
        files.extend(parts);
    }
    for file in &files {
        let Ok(text) = fs::read_to_string(file) else {
            continue;
        };
        let entries = match file.extension().and_then(|e| e.to_str()) {
            Some("list") => parse_list(&text),
            Some("sources") => parse_sources(&text),
            _ => continue,
        };
        if let Some(entry) = entries.into_iter().find(Entry::is_debian) {
            return Ok(entry);
        }
    }
    bail!("apt's configuration in /etc/apt names no Debian mirror with component main");
}

/// The one-line form: `deb [signed-by=…] URI SUITE COMPONENT…`.
fn parse_list(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_list_line).collect()
}

fn parse_list_line(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let mut entry = Entry {
        binary: kind == "deb",
        uris: words.next()?,
        ..Entry::default()
    };
    entry.suites = vec![words.next()?];
    entry.components = words.collect();
    for option in options.split_whitespace() {
        if let Some((name, value)) = option.split_once('=')
            && is_of_mirror(name)
        {
            entry.other.push((name.to_owned(), value.replace(',', " ")));
        }
    }
    Some(entry)
}

/// The deb822 form: paragraphs of fields, a field's further lines begin with a blank.
fn parse_sources(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entry_of(std::mem::take(&mut fields)));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    entries
}

fn entry_of(fields: Vec<(String, String)>) -> Option<Entry> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let words = |name| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    if field("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no")) {
        return None;
    }
    Some(Entry {
        uris: words("URIs").join(" "),
        suites: words("Suites"),
        components: words("Components"),
        binary: words("Types").iter().any(|t| t == "deb"),
        other: fields
            .iter()
            .filter(|(name, _)| is_of_mirror(name))
            .cloned()
            .collect(),
    })
    .filter(|entry| !entry.uris.is_empty())
}

/// Fields that hold for every suite of a mirror.
fn is_of_mirror(field: &str) -> bool {
    ["signed-by", "trusted", "allow-insecure"]
        .iter()
        .any(|name| field.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same_mirror() {
        let list = "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n";
        let sources = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                       Components: main\nSigned-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: x\nSuites: y\n";
        for entries in [parse_list(list), parse_sources(sources)] {
            assert_eq!(entries.len(), 1);
            assert!(entries[0].is_debian());
            let text = entries[0]
                .text("deb", "trixie", "main contrib")
                .to_lowercase();
            assert!(
                text.contains("uris: http://mirror.example/debian\nsuites: trixie\n"),
                "{text}"
            );
            assert!(text.contains("signed-by: /k.gpg\n"), "{text}");
            assert!(!text.contains("bookworm"), "{text}");
        }
    }

    #[test]
    fn key_inside_the_entry_is_kept() {
        let sources = "Types: deb\nURIs: u\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN\n .\n -----END\n";
        let text = parse_sources(sources)[0].text("deb", "forky", "main");
        assert!(
            text.contains("Signed-By: \n -----BEGIN\n .\n -----END\n"),
            "{text}"
        );
    }

    #[test]
    fn other_mirrors_are_not_debian() {
        let others = parse_list(
            "deb https://tools.example/apt nodistro main\ndeb-src http://m trixie main\n",
        );
        assert_eq!(others.len(), 2);
        assert!(!others.iter().any(Entry::is_debian));
    }
}
