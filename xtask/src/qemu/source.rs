//! Where QEMU's source tree comes from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};

use super::patch::Edits;
use super::step;
use crate::apt::{self, Remote, Suite};
use crate::cache::{self, Stamp};
use crate::run;

/// The series that is built unless another one is asked for: Debian trixie's.
pub const DEFAULT_SERIES: &str = "10.0";
/// Names another series.
pub const SERIES_VARIABLE: &str = "VGPU_QEMU_SERIES";

/// Suites that are searched for a series, in this order.
const SUITES: &[&str] = &["trixie", "trixie-backports", "testing", "unstable"];

/// Tarballs that stay in Debian's pool after every suite has moved on: version, SHA256.
const LEFT_IN_POOL: &[(&str, &str)] = &[(
    "10.2.2",
    "be05230fe47a6937cd29f28f562932c8125f9c93c2a82c625198f7a4aa601dfb",
)];

/// Who has the sources.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin {
    /// A tree of the user; never changed.
    Tree(PathBuf),
    /// A tarball at an address, with its SHA256.
    Tarball { url: String, sha256: String },
    /// Debian's source pool; the series, such as 10.0.
    Debian(String),
}

impl Origin {
    /// What QEMU_SRC, or QEMU_URL and QEMU_SHA256, or else the series say.
    pub fn from_environment(series: &str) -> Result<Origin> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let Some(dir) = variable("QEMU_SRC") {
            let tree = fs::canonicalize(&dir).with_context(|| format!("QEMU_SRC={dir}"))?;
            check_tree(&tree).with_context(|| format!("QEMU_SRC={dir}"))?;
            return Ok(Origin::Tree(tree));
        }
        match (variable("QEMU_URL"), variable("QEMU_SHA256")) {
            (Some(url), Some(sha256)) => {
                let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
                ensure!(
                    hex,
                    "QEMU_SHA256={sha256}: give the 64 hexadecimal digits of a SHA256"
                );
                Ok(Origin::Tarball {
                    url,
                    sha256: sha256.to_lowercase(),
                })
            }
            (Some(_), None) => {
                bail!("QEMU_URL is set: set QEMU_SHA256 to the tarball's SHA256 too")
            }
            (None, _) => {
                ensure!(
                    is_series(series),
                    "QEMU series '{series}': give two numbers, such as {DEFAULT_SERIES} or 10.2"
                );
                Ok(Origin::Debian(series.to_owned()))
            }
        }
    }

    /// Name of its directory in the cache.
    pub fn id(&self) -> String {
        match self {
            Origin::Tree(dir) => format!("tree-{}", cache::hash(dir)),
            Origin::Tarball { sha256, .. } => {
                format!("tarball-{}", sha256.get(..16).unwrap_or(sha256))
            }
            Origin::Debian(series) => series.clone(),
        }
    }

    /// Its directory in the cache.
    pub fn dir(&self) -> Result<PathBuf> {
        cache::dir(&format!("qemu/{}", self.id()))
    }
}

fn is_series(text: &str) -> bool {
    let mut numbers = text.split('.');
    let mut number = || numbers.next().is_some_and(|n| n.parse::<u16>().is_ok());
    number() && number() && numbers.next().is_none()
}

/// A source tree in the cache.
pub struct Tree {
    /// Its root.
    pub dir: PathBuf,
}

/// The tree of an origin; what is there already is used again.
pub fn fetch(origin: &Origin) -> Result<Tree> {
    let dir = origin.dir()?.join("source");
    match origin {
        Origin::Tree(from) => overlay(from, &dir)?,
        Origin::Tarball { url, sha256 } => unpack(&dir, sha256, || download(url, sha256))?,
        Origin::Debian(series) => {
            // A point release does not replace what is built: remove the directory for that.
            if !fs::exists(dir.join("VERSION"))? || !marked(&dir) {
                let tarball = in_debian(series)?;
                unpack(&dir, &tarball.checksum, || {
                    tarball.fetch(&cache::dir("downloads")?)
                })?;
            }
        }
    }
    check_tree(&dir)?;
    Ok(Tree { dir })
}

/// The version that a tree states, such as 10.0.13.
pub fn version(tree: &Path) -> Result<String> {
    let file = tree.join("VERSION");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn check_tree(dir: &Path) -> Result<()> {
    for file in [
        "VERSION",
        "configure",
        "meson_options.txt",
        "hw/meson.build",
    ] {
        ensure!(
            dir.join(file).is_file(),
            "{} is no QEMU source tree: it has no {file}",
            dir.display()
        );
    }
    Ok(())
}

/// The newest tarball of a series in Debian's pool.
fn in_debian(series: &str) -> Result<Remote> {
    let mut seen = Vec::new();
    let mut mirror = None;
    for name in SUITES {
        let found = Suite::open(name).and_then(|suite| suite.source("qemu"));
        let files = match found {
            Ok(files) => files,
            // A mirror need not have every suite, but it must have the first one.
            Err(error) if seen.is_empty() && mirror.is_none() => return Err(error),
            Err(_) => continue,
        };
        let Some(tarball) = files.into_iter().find(|f| f.file.contains(".orig.tar.")) else {
            continue;
        };
        let version = tarball_version(&tarball.file);
        if version.is_some_and(|version| in_series(version, series)) {
            return Ok(tarball);
        }
        seen.push(format!("{name} {}", version.unwrap_or("?")));
        mirror.get_or_insert(tarball);
    }
    if let (Some((version, sha256)), Some(sibling)) = (
        LEFT_IN_POOL
            .iter()
            .find(|(version, _)| in_series(version, series)),
        mirror,
    ) {
        return Ok(sibling_of(&sibling, version, sha256));
    }
    bail!(
        "Debian's pool has no QEMU {series} ({}); set QEMU_SRC to a source tree, or QEMU_URL and \
         QEMU_SHA256 to a tarball",
        seen.join(", ")
    )
}

/// A tarball beside another one in the pool.
fn sibling_of(other: &Remote, version: &str, sha256: &str) -> Remote {
    let folder = other.uri.rsplit_once('/').map_or("", |(folder, _)| folder);
    let file = format!("qemu_{version}+ds.orig.tar.xz");
    Remote {
        uri: format!("{folder}/{}", file.replace('+', "%2b")),
        file,
        size: 0,
        checksum: format!("SHA256:{sha256}"),
    }
}

/// `10.0.13` of `qemu_10.0.13+ds.orig.tar.xz`.
fn tarball_version(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("qemu_")?;
    rest.split(|c: char| c != '.' && !c.is_ascii_digit())
        .next()
        .map(|v| v.trim_end_matches('.'))
}

fn in_series(version: &str, series: &str) -> bool {
    version
        .strip_prefix(series)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A tarball of the user's choice, checked.
fn download(url: &str, sha256: &str) -> Result<PathBuf> {
    let file = format!("qemu-{sha256}.tar");
    let remote = Remote {
        uri: url.to_owned(),
        file,
        size: 0,
        checksum: format!("SHA256:{sha256}"),
    };
    let mut step = step("download");
    let path = cache::dir("downloads")?.join(&remote.file);
    if !path.is_file() {
        apt::ensure(&["ca-certificates", "curl"])?;
        let part = path.with_extension("part");
        let mut curl = Command::new("curl");
        curl.args([
            "--fail",
            "--location",
            "--show-error",
            "--silent",
            "--output",
        ])
        .arg(&part)
        .arg(url);
        step.run(&mut curl, "qemu-download")?;
        let sum = run::stdout(Command::new("sha256sum").arg(&part))?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        ensure!(
            sum == sha256,
            "{url}: its SHA256 is {sum}, but QEMU_SHA256 says {sha256}"
        );
        fs::rename(&part, &path)?;
    }
    step.done("");
    Ok(path)
}

fn mark(dir: &Path) -> PathBuf {
    dir.with_extension("unpacked")
}

fn marked(dir: &Path) -> bool {
    mark(dir).is_file()
}

/// Unpacks a tarball as `dir`, unless that one is there.
fn unpack(dir: &Path, checksum: &str, tarball: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    let stamp = Stamp::new(mark(dir), checksum);
    if stamp.is_set() && dir.is_dir() {
        return Ok(());
    }
    stamp.clear()?;
    apt::ensure(&["xz-utils"])?;
    let mut step = step("source");
    let tarball = tarball()?;
    if dir.is_dir() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(dir)?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--strip-components=1", "--directory"])
        .arg(dir)
        .arg("--file")
        .arg(&tarball);
    step.run(&mut tar, "qemu-unpack")?;
    stamp.set()?;
    step.done(&format!("{} ({checksum})", version(dir)?));
    Ok(())
}

/// Brings a copy of the user's tree up to date, without touching what our edits changed.
fn overlay(from: &Path, to: &Path) -> Result<()> {
    let step = step("copy of the source tree");
    let edits = Edits::load()?;
    let mut changed = 0;
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        fs::create_dir_all(to.join(&folder))?;
        let here = from.join(&folder);
        for entry in fs::read_dir(&here).with_context(|| format!("read {}", here.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                // Not the history, and no build directory (it has the configure status file).
                let skipped =
                    path == Path::new(".git") || entry.path().join("config.status").exists();
                if !skipped {
                    folders.push(path);
                }
            } else if copy(&edits, from, to, &path, kind.is_symlink())? {
                changed += 1;
            }
        }
    }
    step.done(&format!("{} ({changed} files changed)", version(to)?));
    Ok(())
}

/// Copies one file if it differs; says whether it did.
fn copy(edits: &Edits, from: &Path, to: &Path, path: &Path, link: bool) -> Result<bool> {
    let (source, target) = (from.join(path), to.join(path));
    let context = || format!("copy {}", source.display());
    if link {
        let aim = fs::read_link(&source).with_context(context)?;
        if fs::read_link(&target).is_ok_and(|old| old == aim) {
            return Ok(false);
        }
        let _ = fs::remove_file(&target);
        std::os::unix::fs::symlink(aim, &target).with_context(context)?;
        return Ok(true);
    }
    if edits.concern(path) {
        let text = fs::read_to_string(&source).with_context(context)?;
        let edited = edits.edited(path, &text)?;
        return cache::write_if_changed(&target, edited.as_bytes());
    }
    let meta = fs::metadata(&source).with_context(context)?;
    let same = |old: fs::Metadata| -> bool {
        let time = |m: &fs::Metadata| m.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        old.len() == meta.len() && time(&old) == time(&meta)
    };
    if fs::metadata(&target).is_ok_and(same) {
        return Ok(false);
    }
    fs::copy(&source, &target).with_context(context)?;
    if let Ok(time) = meta.modified() {
        fs::File::open(&target)
            .and_then(|file| file.set_modified(time))
            .with_context(context)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_tarballs() {
        assert_eq!(
            tarball_version("qemu_10.0.13+ds.orig.tar.xz"),
            Some("10.0.13")
        );
        assert_eq!(tarball_version("qemu_11.1.2.orig.tar.xz"), Some("11.1.2"));
        assert_eq!(tarball_version("other.tar"), None);
    }

    #[test]
    fn series_are_whole_numbers() {
        assert!(in_series("10.0.13", "10.0"));
        assert!(in_series("10.0", "10.0"));
        assert!(!in_series("10.01.3", "10.0"));
        assert!(!in_series("10.2.2", "10.0"));
        assert!(is_series("10.2"));
        for bad in ["10", "10.2.1", "ten.two", "", "10."] {
            assert!(!is_series(bad), "{bad}");
        }
    }

    #[test]
    fn a_tarball_that_left_the_index_is_sought_beside_another() {
        let other = Remote {
            uri: "http://mirror.example/pool/main/q/qemu/qemu_11.1.2%2bds.orig.tar.xz".into(),
            file: "qemu_11.1.2+ds.orig.tar.xz".into(),
            size: 1,
            checksum: "SHA256:1".into(),
        };
        let remote = sibling_of(&other, "10.2.2", "ab");
        assert_eq!(
            remote.uri,
            "http://mirror.example/pool/main/q/qemu/qemu_10.2.2%2bds.orig.tar.xz"
        );
        assert_eq!(remote.checksum, "SHA256:ab");
    }
}
