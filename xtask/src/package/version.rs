//! The package's version and its date, from the sources alone.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{run, workspace};

/// Names one state of the sources.
pub struct Version {
    /// As dpkg compares it.
    pub text: String,
    /// Seconds since 1970, for every date in the package.
    pub epoch: u64,
}

impl Version {
    /// `0.1.0~git20261120083019.5d86949`: before the release 0.1.0, and growing with the commits.
    pub fn of_sources() -> Result<Self> {
        let release = env!("CARGO_PKG_VERSION");
        let commit = git(&["log", "-1", "--format=%ct %h"]).ok();
        let commit = commit
            .as_deref()
            .and_then(|line| line.trim().split_once(' '));
        let given = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => Some(text.parse().with_context(|| {
                format!("SOURCE_DATE_EPOCH={text}: not a number of seconds since 1970")
            })?),
            Err(_) => None,
        };
        let committed = commit.and_then(|(time, _)| time.parse().ok());
        let epoch = given.or(committed).context(
            "the package's date is unknown: this is no git checkout; set SOURCE_DATE_EPOCH to seconds since 1970",
        )?;
        let text = match commit {
            Some((_, hash)) => format!("{release}~git{}.{hash}", date(epoch, "+%Y%m%d%H%M%S")?),
            None => release.to_owned(),
        };
        Ok(Self { text, epoch })
    }

    /// The date as changelogs have it.
    pub fn rfc2822(&self) -> Result<String> {
        date(self.epoch, "-R")
    }
}

fn git(words: &[&str]) -> Result<String> {
    run::stdout(
        Command::new("git")
            .arg("-C")
            .arg(workspace::root())
            .args(words),
    )
}

fn date(epoch: u64, format: &str) -> Result<String> {
    let text = run::stdout(Command::new("date").env("LC_ALL", "C").args([
        "-u",
        "-d",
        &format!("@{epoch}"),
        format,
    ]))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_in_utc() {
        assert_eq!(date(0, "+%Y%m%d%H%M%S").unwrap(), "19700101000000");
        let version = Version {
            text: String::new(),
            epoch: 1_795_163_419,
        };
        assert!(version.rfc2822().unwrap().ends_with("+0000"));
    }
}
