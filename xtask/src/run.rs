//! Running programs: errors that name the program and show what it said.

use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A word as a POSIX shell reads it back unchanged.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref().to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs to the end; its streams are ours.
pub fn inherit(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end in silence; the error shows what it printed.
pub fn ok(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run `{}`", shown(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}{}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// What it prints on its standard output.
pub fn stdout(command: &mut Command) -> Result<String> {
    String::from_utf8(ok(command)?.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_the_shell() {
        for word in ["a", "", "a b", "it's", "$HOME", "a\nb", "*"] {
            let script = format!("printf %s {}", quoted(word));
            assert_eq!(
                stdout(Command::new("sh").args(["-c", &script])).unwrap(),
                word
            );
        }
    }

    #[test]
    fn failure_names_the_command_and_its_words() {
        let error = ok(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("broken") && error.contains("exit status: 3"),
            "{error}"
        );
    }
}
