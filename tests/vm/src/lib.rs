//! End-to-end tests that boot a guest: how one is started and what it gave.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// A guest that runs one command.
pub struct Guest {
    options: Vec<String>,
}

/// How it ended.
pub struct Ended {
    /// The command's exit status.
    pub status: i32,
    /// What the command wrote.
    pub stdout: String,
    /// What the command wrote to its standard error, and what `cargo xtask vm` said.
    pub stderr: String,
}

impl Guest {
    /// One with these options of `cargo xtask vm`.
    pub fn new(options: &[&str]) -> Self {
        // Tests run at the same time on few cores: one virtual CPU each.
        let mut all = vec!["--cwd", "/", "--cpus", "1", "--timeout", "600"];
        if std::env::var_os(BUILT).is_some() {
            all.push("--no-build");
        }
        all.extend(options);
        Self {
            options: all.into_iter().map(str::to_owned).collect(),
        }
    }

    /// Runs these words in it.
    pub fn run(&self, words: &[&str]) -> Result<Ended> {
        self.run_with(words, Stdio::null())
    }

    /// The same, with an input.
    pub fn run_with(&self, words: &[&str], input: Stdio) -> Result<Ended> {
        let mut command = xtask();
        command
            .arg("vm")
            .args(&self.options)
            .arg("--")
            .args(words)
            .stdin(input);
        let output = command
            .output()
            .with_context(|| format!("run {command:?}"))?;
        Ok(Ended {
            status: output
                .status
                .code()
                .context("`cargo xtask vm` was killed")?,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a script of the shell in it that must succeed.
    pub fn shell(&self, script: &str) -> Result<Ended> {
        let ended = self.run(&["sh", "-ec", script])?;
        ensure!(
            ended.status == 0,
            "exit status {}\n{}\n{}",
            ended.status,
            ended.stdout,
            ended.stderr
        );
        Ok(ended)
    }
}

/// Names the command where it is built, and says that all else is built too.
const BUILT: &str = "VGPU_XTASK";

/// The command `cargo xtask`.
pub fn xtask() -> Command {
    match std::env::var_os(BUILT) {
        Some(program) => Command::new(program),
        None => {
            let mut command = Command::new(env!("CARGO"));
            command.args(["run", "--quiet", "--package", "xtask", "--"]);
            command
        }
    }
}

/// How many processes with this name have been started by this one, by those that it started, and so on.
pub fn descendants(name: &str) -> usize {
    // "pid (name) state ppid …", and the name may hold anything.
    let stat = |pid: u32| -> Option<(String, u32)> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        Some((name, rest.split(' ').nth(1)?.parse().ok()?))
    };
    let own = std::process::id();
    let is_ours = |mut pid: u32| {
        while pid > 1 {
            match stat(pid) {
                Some((_, parent)) if parent == own => return true,
                Some((_, parent)) => pid = parent,
                None => return false,
            }
        }
        false
    };
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(found, _)| found == name) && is_ours(*pid))
        .count()
}
