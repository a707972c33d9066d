//! The shell script that runs the command in the guest: directory, environment and words exactly as given.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::options::Options;
use crate::run::quoted;

/// A line of a root's /etc/passwd.
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

/// Finds `name` in the root's own list of users.
pub fn user(root: &Path, name: &str) -> Result<User> {
    let path = root.join("etc/passwd");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    parse_user(&text, name)
        .with_context(|| format!("--user {name}: no such user in {}", path.display()))
}

fn parse_user(text: &str, name: &str) -> Option<User> {
    let fields: Vec<_> = text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|f| f.first() == Some(&name))?;
    Some(User {
        name: name.to_owned(),
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: (*fields.get(5)?).to_owned(),
    })
}

/// What becomes that user: words before the command.
pub fn become_user(user: &User) -> String {
    if user.uid == 0 {
        return String::new();
    }
    format!(
        "/usr/bin/setpriv --reuid={} --regid={} --init-groups",
        user.uid, user.gid
    )
}

/// Variables that the guest's libraries read.
const HANDED_ON: &[&str] = &["VGPU_LOG", "VGPU_SYNC", "VGPU_DEVICE", "RUST_BACKTRACE"];

/// The variables of the command.
fn environment(options: &Options, user: &User) -> BTreeMap<String, OsString> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: OsString| {
        variables.insert(name.to_owned(), value);
    };
    set(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/vgpu-stub/bin".into(),
    );
    set("HOME", user.home.clone().into());
    set("USER", user.name.clone().into());
    set("LOGNAME", user.name.clone().into());
    set("SHELL", "/bin/sh".into());
    for name in ["TERM", "LANG", "LC_ALL", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            set(name, value);
        }
    }
    for (name, value) in std::env::vars_os() {
        if let Some(name) = name.to_str()
            && (HANDED_ON.contains(&name) || name.starts_with("CUDA_"))
        {
            set(name, value);
        }
    }
    for entry in &options.environment {
        match entry.split_once('=') {
            Some((name, value)) => set(name, value.into()),
            None => {
                if let Some(value) = std::env::var_os(entry) {
                    set(entry, value);
                }
            }
        }
    }
    variables
}

/// The script. An empty command is a login shell.
pub fn command(options: &Options, user: &User, words: &[OsString]) -> Result<String> {
    let directory = match &options.cwd {
        Some(directory) => directory.clone(),
        None if options.root == "host" => std::env::current_dir().context("this directory")?,
        None => PathBuf::from("/"),
    };
    let mut script = format!(
        "cd {} || exit 127\nexec /usr/bin/env -i",
        quoted(&directory)
    );
    for (name, value) in environment(options, user) {
        script.push_str(&format!(
            " {}",
            quoted(format!("{name}={}", value.to_string_lossy()))
        ));
    }
    if words.is_empty() {
        script.push_str(" sh -c 'exec \"$(command -v bash || echo sh)\" -i'");
    }
    for word in words {
        script.push(' ');
        script.push_str(&quoted(word));
    }
    script.push('\n');
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn nobody() -> User {
        parse_user(
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65533:n:/none:/bin/sh\n",
            "nobody",
        )
        .unwrap()
    }

    #[test]
    fn users_come_from_the_root() {
        let user = nobody();
        assert_eq!(
            (user.uid, user.gid, user.home.as_str()),
            (65534, 65533, "/none")
        );
        assert!(parse_user("root:x:0:0:root:/root:/bin/sh", "roo").is_none());
        assert!(become_user(&user).contains("--reuid=65534 --regid=65533"));
    }

    #[test]
    fn words_directory_and_variables_arrive_exactly() {
        let options = Options {
            cwd: Some("/usr".into()),
            environment: vec!["A=it's; $HOME".into()],
            ..Options::default()
        };
        let words = [
            "sh",
            "-c",
            "pwd; printf '%s|' \"$A\" \"$HOME\" \"$@\"; exit 7",
            "x",
            "a b",
            "",
            "'",
        ];
        let words: Vec<_> = words.iter().map(OsString::from).collect();
        let script = command(&options, &nobody(), &words).unwrap();
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "/usr\nit's; $HOME|/none|a b||'|"
        );
        assert_eq!(output.status.code(), Some(7));
    }
}
