//! As much of an HTTP client as talks to `llama-server`: one request per connection; bodies whole or as
//! server-sent events.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A server that says nothing for so long hangs.
const SILENCE: Duration = Duration::from_secs(120);

/// Most bytes of a body that are read.
const MAX_BODY: u64 = 16 << 20;

/// A port of the loopback that nobody listens on now.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// An answer whose body has not been read.
pub struct Answer {
    pub status: u16,
    body: BufReader<Body>,
}

/// A body, in chunks or up to the end of the connection.
struct Body {
    stream: BufReader<TcpStream>,
    chunked: bool,
    /// What is left of the chunk.
    left: u64,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.chunked {
            return self.stream.read(buffer);
        }
        while self.left == 0 {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // A chunk ends with an empty line.
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            self.left = u64::from_str_radix(line, 16)
                .map_err(|_| io::Error::other(format!("no length of a chunk: {line:?}")))?;
            if self.left == 0 {
                self.chunked = false;
                return Ok(0);
            }
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self
            .stream
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Sends a request; with a body, it is a POST of JSON.
pub fn send(port: u16, path: &str, body: Option<&str>) -> Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect")?;
    stream.set_read_timeout(Some(SILENCE))?;
    let (method, body) = body.map_or(("GET", ""), |body| ("POST", body));
    // In one piece: a server may answer, and close, before the rest of it comes.
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes())?;
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).context("read the status")?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no HTTP answer: {line:?}"))?;
    let mut chunked = false;
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the header has no end");
        let name = line.to_ascii_lowercase();
        chunked |= name.starts_with("transfer-encoding:") && name.contains("chunked");
        if line.trim_end().is_empty() {
            let left = 0;
            let body = BufReader::new(Body {
                stream,
                chunked,
                left,
            });
            return Ok(Answer { status, body });
        }
    }
}

/// Waits until the server says that it is ready.
pub fn wait_until_ready(port: u16, limit: Duration, gone: &dyn Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    loop {
        if send(port, "/health", None).is_ok_and(|answer| answer.status == 200) {
            return Ok(());
        }
        ensure!(!gone(), "the guest ended before its server was ready");
        if start.elapsed() > limit {
            bail!("the server is not ready after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

impl Answer {
    /// The body as JSON.
    pub fn json(self) -> Result<serde_json::Value> {
        let mut body = String::new();
        self.body.take(MAX_BODY).read_to_string(&mut body)?;
        ensure!(self.status == 200, "status {}: {body}", self.status);
        serde_json::from_str(&body).with_context(|| format!("no JSON: {body}"))
    }

    /// The next event of a stream; `None` at its end, after `[DONE]` or without.
    pub fn event(&mut self) -> Result<Option<Event>> {
        let mut line = String::new();
        loop {
            line.clear();
            if self.body.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            match line.trim_end().strip_prefix("data: ") {
                Some("[DONE]") => return Ok(Some(Event::Done)),
                Some(text) => return Ok(Some(Event::Data(serde_json::from_str(text)?))),
                None => {}
            }
        }
    }
}

/// One event.
pub enum Event {
    Data(serde_json::Value),
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers one request with these bytes.
    fn serve(bytes: &'static str) -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(bytes.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // A connection that is closed with something unread is reset, and the answer lost with it.
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        port
    }

    #[test]
    fn bodies_and_events_are_read() {
        let port = serve("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n{\"a\": 1}");
        let json = send(port, "/x", Some("{}")).unwrap().json().unwrap();
        assert_eq!(json["a"], 1);
        let port = serve("HTTP/1.1 200 OK\r\n\r\ndata: {\"b\":2}\n\n: x\ndata: [DONE]\n\n");
        let mut answer = send(port, "/x", None).unwrap();
        assert!(matches!(answer.event().unwrap(), Some(Event::Data(v)) if v["b"] == 2));
        assert!(matches!(answer.event().unwrap(), Some(Event::Done)));
        assert!(answer.event().unwrap().is_none());
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      a\r\ndata: {\"c\"\r\n6\r\n: 3}\n\n\r\n0\r\n\r\n";
        let mut answer = send(serve(chunks), "/x", None).unwrap();
        assert!(matches!(answer.event().unwrap(), Some(Event::Data(v)) if v["c"] == 3));
        assert!(answer.event().unwrap().is_none());
        let port = serve("HTTP/1.1 500 No\r\n\r\nwrong");
        let error = send(port, "/x", None).unwrap().json().unwrap_err();
        assert!(error.to_string().contains("500: wrong"), "{error}");
    }
}
