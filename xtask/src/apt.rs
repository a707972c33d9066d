//! Debian packages: what the machine lacks, and what is only downloaded.
//!
//! Everything comes from the mirrors that the machine's own apt is configured for.

mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub use sources::{Suite, mirror};

use crate::progress;
use crate::run;

/// Set to `skip`, no package is looked for: for machines that have their equivalents.
const VARIABLE: &str = "VGPU_PACKAGES";

/// Installs those of the packages that are missing, after saying so.
pub fn ensure(packages: &[&str]) -> Result<()> {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "skip") {
        return Ok(());
    }
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(
        program_exists("apt-get"),
        "these packages (Debian's names) are missing and there is no apt-get: {list}\n\
         Where you have their equivalents, set {VARIABLE}=skip"
    );
    let sudo = if is_root() {
        None
    } else if program_exists("sudo") {
        Some("sudo")
    } else {
        bail!("these packages are missing: {list}\nInstall them as root: apt-get install {list}");
    };
    let apt_get = |words: &[&str]| {
        let mut command = match sudo {
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
                command
            }
            None => {
                let mut command = Command::new("apt-get");
                command.env("DEBIAN_FRONTEND", "noninteractive");
                command
            }
        };
        command.args(words);
        command
    };
    eprintln!("installing packages: {list}");
    if let Some(sudo) = sudo {
        // Asks for the password here, not below where its prompt would go to a log.
        run::inherit(Command::new(sudo).arg("-v")).with_context(|| {
            format!("no rights to install packages; as root: apt-get install {list}")
        })?;
    }
    let mut step = progress::step("apt-get update");
    step.run(&mut apt_get(&["update"]), "apt-update")?;
    step.done("");
    let mut step = progress::step("apt-get install");
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(&missing);
    step.run(&mut apt_get(&words), "apt-install")
        .with_context(|| format!("install by hand: apt-get install {list}"))?;
    step.done(&format!("{} packages", missing.len()));
    Ok(())
}

/// Downloads a package of the machine's own release into a directory; gives the .deb's path.
pub fn download(package: &str, dir: &Path) -> Result<PathBuf> {
    let uris = |()| print_uris(&[], &["download", package]);
    let found = match uris(()) {
        Ok(found) if !found.is_empty() => found,
        // A fresh machine has no package lists yet.
        _ => {
            ensure!(
                is_root() || program_exists("sudo"),
                "the package lists are empty; as root: apt-get update"
            );
            let mut step = progress::step("apt-get update");
            let mut command = Command::new(if is_root() { "apt-get" } else { "sudo" });
            if !is_root() {
                command.arg("apt-get");
            }
            step.run(command.arg("update"), "apt-update")?;
            step.done("");
            uris(())?
        }
    };
    let file = found
        .first()
        .with_context(|| format!("apt knows no package {package}"))?;
    file.fetch(dir)
}

/// A file that apt can fetch, with the checksum of the signed index.
#[derive(Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is.
    pub uri: String,
    /// Its name.
    pub file: String,
    /// In bytes.
    pub size: u64,
    /// As apt writes it: `SHA256:…`.
    pub checksum: String,
}

impl Remote {
    /// Fetches it into a directory, unless it is there; the checksum is verified.
    pub fn fetch(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(&self.file);
        let verified = dir.join(format!("{}.verified", self.file));
        // The mark is written after the check: a download that was cut off has none.
        if path.is_file() && fs::read_to_string(&verified).is_ok_and(|text| text == self.checksum) {
            return Ok(path);
        }
        ensure!(
            self.checksum.starts_with("SHA256:") || self.checksum.starts_with("SHA512:"),
            "{}: the index has no SHA256 for it but {:?}",
            self.file,
            self.checksum
        );
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut command = Command::new(HELPER);
        command
            .args(sandbox())
            .arg("download-file")
            .arg(&self.uri)
            .arg(&path)
            .arg(&self.checksum);
        run::ok(&mut command).with_context(|| format!("download {}", self.file))?;
        fs::write(&verified, &self.checksum)?;
        Ok(path)
    }
}

/// apt's own downloader: it knows the machine's proxies and certificates.
const HELPER: &str = "/usr/lib/apt/apt-helper";

/// What `apt-get --print-uris` says.
fn print_uris(options: &[String], words: &[&str]) -> Result<Vec<Remote>> {
    let text = run::stdout(
        Command::new("apt-get")
            .args(options)
            .args(["--print-uris", "-qq"])
            .args(words),
    )?;
    Ok(text.lines().filter_map(parse_uri).collect())
}

/// A line such as `'http://…/x.deb' x.deb 1234 SHA256:…`.
fn parse_uri(line: &str) -> Option<Remote> {
    let mut words = line.split_whitespace();
    let uri = words.next()?.strip_prefix('\'')?.strip_suffix('\'')?;
    let file = words.next()?;
    let size = words.next()?.parse().ok()?;
    let checksum = words.next().unwrap_or_default();
    let plain = !file.contains('/') && !file.starts_with('.');
    plain.then(|| Remote {
        uri: uri.to_owned(),
        file: file.to_owned(),
        size,
        checksum: checksum.to_owned(),
    })
}

/// As root apt would change to a user who cannot write below our cache.
fn sandbox() -> &'static [&'static str] {
    if is_root() {
        &["-oAPT::Sandbox::User=root"]
    } else {
        &[]
    }
}

fn installed(package: &str) -> bool {
    run::stdout(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

fn program_exists(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn is_root() -> bool {
    run::stdout(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uri_lines_are_read() {
        let line = "'http://mirror.example/pool/q%2bds.tar.xz' q+ds.tar.xz 40010016 SHA256:6a08";
        let remote = parse_uri(line).unwrap();
        assert_eq!(remote.file, "q+ds.tar.xz");
        assert_eq!(remote.size, 40_010_016);
        assert_eq!(remote.checksum, "SHA256:6a08");
        assert!(remote.uri.ends_with("q%2bds.tar.xz"));
        assert_eq!(parse_uri("Need to get 40.2 MB of source archives."), None);
        assert_eq!(parse_uri("'http://x/y' ../y 1 SHA256:0"), None);
    }

    #[test]
    fn a_file_without_a_strong_checksum_is_refused() {
        let dir = std::env::temp_dir();
        let remote = Remote {
            uri: "http://mirror.example/x".into(),
            file: "vgpu-x".into(),
            size: 1,
            checksum: "MD5Sum:00".into(),
        };
        assert!(
            remote
                .fetch(&dir)
                .unwrap_err()
                .to_string()
                .contains("SHA256")
        );
    }
}
