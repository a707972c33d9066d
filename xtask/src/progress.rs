//! Long steps: what runs, since when, and what it said when it failed.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::run::shown;

/// Lines of a failed command that are shown.
const TAIL_LINES: usize = 40;
/// Columns of the live line.
const LIVE_COLUMNS: usize = 79;
/// How often a step without a terminal says that it is still alive.
const QUIET_INTERVAL: Duration = Duration::from_secs(30);

/// A step that runs; one line is printed when it ends.
pub struct Step {
    name: String,
    since: Instant,
    live: bool,
    next_sign: Duration,
}

/// Starts a step.
pub fn step(name: &str) -> Step {
    let step = Step {
        name: name.to_owned(),
        since: Instant::now(),
        live: std::io::stderr().is_terminal(),
        next_sign: QUIET_INTERVAL,
    };
    if step.live {
        step.show("");
    } else {
        eprintln!("{name} ...");
    }
    step
}

impl Step {
    /// Ends the step; `note` says what came of it.
    pub fn done(self, note: &str) {
        self.wipe();
        let colon = if note.is_empty() { "" } else { ": " };
        eprintln!(
            "{}{colon}{note} ({})",
            self.name,
            seconds(self.since.elapsed())
        );
    }

    /// Runs a command; its output goes to the log `log_name`, its last line to the terminal.
    pub fn run(&mut self, command: &mut Command, log_name: &str) -> Result<()> {
        let log_path = log_file(log_name)?;
        let mut log =
            File::create(&log_path).with_context(|| format!("write {}", log_path.display()))?;
        let words = shown(command);
        writeln!(log, "$ {words}")?;
        let (reader, writer) = std::io::pipe()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("run `{words}`"))?;
        // The command holds the pipe's writing end: let go, so that we see its end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n') {
                let Ok(line) = line else { break };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        let mut tail = VecDeque::new();
        loop {
            match lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => {
                    writeln!(log, "{line}")?;
                    if tail.len() == TAIL_LINES {
                        tail.pop_front();
                    }
                    tail.push_back(line);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.tick(tail.back().map_or("", String::as_str));
        }
        let status = child.wait()?;
        let _ = reader.join();
        if !status.success() {
            self.wipe();
            let tail: Vec<_> = tail.into_iter().collect();
            bail!(
                "{}: `{words}` failed: {status}\n{}\n(the whole log: {})",
                self.name,
                tail.join("\n"),
                log_path.display()
            );
        }
        Ok(())
    }

    fn tick(&mut self, line: &str) {
        if self.live {
            self.show(line);
        } else if self.since.elapsed() >= self.next_sign {
            self.next_sign += QUIET_INTERVAL;
            eprintln!(
                "{}: {} {}",
                self.name,
                seconds(self.since.elapsed()),
                fitted(line, LIVE_COLUMNS)
            );
        }
    }

    fn show(&self, line: &str) {
        let text = format!(
            "{} {} {}",
            self.name,
            seconds(self.since.elapsed()),
            line.trim()
        );
        eprint!("\r\x1b[K{}", fitted(&text, LIVE_COLUMNS));
    }

    fn wipe(&self) {
        if self.live {
            eprint!("\r\x1b[K");
        }
    }
}

impl Drop for Step {
    /// A step that ends in an error leaves no half line behind.
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Where the log of a step goes.
pub fn log_file(name: &str) -> Result<PathBuf> {
    let path = cache::dir("logs")?.join(format!("{name}.log"));
    if let Some(parent) = Path::new(&path).parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(path)
}

fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 60 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

/// The first `columns` characters, none of which moves the cursor.
fn fitted(text: &str, columns: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(columns)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn live_line_has_no_control_characters() {
        assert_eq!(fitted("a\x1b[1mb\tc", 4), "a[1m");
    }
}
