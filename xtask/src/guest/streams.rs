//! The streams between the host and the guest: one socket of ours per virtio port.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

/// Where the command's standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Ours.
    Inherit,
    /// Nowhere: it is at its end.
    Null,
}

/// Where the command's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To ours, byte by byte.
    Inherit,
    /// To ours, each line behind this prefix, and kept.
    Prefixed(String),
    /// Kept.
    Capture,
}

/// A port of the guest and the socket behind it.
pub struct Port {
    pub name: &'static str,
    pub path: PathBuf,
    listener: UnixListener,
}

impl Port {
    /// Opens the socket that QEMU is to connect to.
    pub fn open(directory: &Path, name: &'static str) -> Result<Self> {
        let path = directory.join(name);
        // That of a guest that did not come up.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .with_context(|| format!("open the socket {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            name,
            path,
            listener,
        })
    }

    /// Waits for QEMU; nothing when the guest ended first.
    fn accept(&self, ended: &AtomicBool) -> Option<UnixStream> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => return stream.set_nonblocking(false).ok().map(|()| stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
            if ended.load(Ordering::Acquire) {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Passes on and keeps what the guest writes.
    pub fn collect(
        self,
        ended: Arc<AtomicBool>,
        output: Output,
        to_stderr: bool,
    ) -> JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut kept = Vec::new();
            let Some(stream) = self.accept(&ended) else {
                return kept;
            };
            let mut reader = BufReader::with_capacity(64 << 10, stream);
            let mut at_line_start = true;
            loop {
                let chunk = match reader.fill_buf() {
                    Ok([]) | Err(_) => break,
                    Ok(chunk) => chunk,
                };
                let shown = match &output {
                    Output::Capture => Vec::new(),
                    Output::Inherit => chunk.to_vec(),
                    Output::Prefixed(prefix) => prefixed(chunk, prefix, &mut at_line_start),
                };
                // A reader that went away does not end the guest.
                let _ = if to_stderr {
                    show(io::stderr(), &shown)
                } else {
                    show(io::stdout(), &shown)
                };
                if output != Output::Inherit {
                    kept.extend_from_slice(chunk);
                }
                let length = chunk.len();
                reader.consume(length);
            }
            kept
        })
    }

    /// Sends on each line that the guest writes.
    pub fn lines(self, ended: Arc<AtomicBool>, sender: Sender<String>) -> JoinHandle<()> {
        thread::spawn(move || {
            let Some(stream) = self.accept(&ended) else {
                return;
            };
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        })
    }

    /// Gives the guest its input, of which nothing is read before the guest is up: another one may get it. The thread is left
    /// alone: it may wait for a terminal for ever.
    pub fn feed(self, ended: Arc<AtomicBool>, up: Arc<AtomicBool>, input: Input) {
        thread::spawn(move || {
            let Some(mut stream) = self.accept(&ended) else {
                return;
            };
            while !up.load(Ordering::Acquire) {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                thread::sleep(Duration::from_millis(2));
            }
            if input == Input::Inherit {
                let mut buffer = vec![0; 64 << 10];
                let mut stdin = io::stdin().lock();
                while let Ok(length @ 1..) = stdin.read(&mut buffer) {
                    if stream
                        .write_all(buffer.get(..length).unwrap_or_default())
                        .is_err()
                    {
                        break;
                    }
                }
            }
            // Only this direction: a full close would make QEMU drop what the guest has not read yet.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0]);
        });
    }
}

fn show(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn prefixed(chunk: &[u8], prefix: &str, at_line_start: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunk.len() + prefix.len());
    for line in chunk.split_inclusive(|&byte| byte == b'\n') {
        if *at_line_start {
            out.extend_from_slice(prefix.as_bytes());
        }
        out.extend_from_slice(line);
        *at_line_start = line.ends_with(b"\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_stands_before_each_line_once() {
        let mut start = true;
        assert_eq!(prefixed(b"a\nb", "> ", &mut start), b"> a\n> b");
        assert_eq!(prefixed(b"c\n", "> ", &mut start), b"c\n");
        assert_eq!(prefixed(b"d\n", "> ", &mut start), b"> d\n");
    }
}
