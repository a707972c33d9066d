//! A QEMU process without a guest: the test is its CPU.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use vgpu_test_harness::runner::Skip;

/// A QEMU that does not answer within this time hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// How to start a QEMU with the device.
#[derive(Clone, Debug)]
pub struct Binary {
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// Finds QEMU: `VGPU_QEMU` with `VGPU_QEMU_ARGS`, else the last build of `cargo xtask qemu`.
pub fn binary() -> Result<Binary, Skip> {
    static FOUND: OnceLock<Result<Binary, Skip>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<Binary, Skip> {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    if let Some(program) = std::env::var_os("VGPU_QEMU") {
        let arguments = std::env::var("VGPU_QEMU_ARGS").map_or_else(|_| Vec::new(), words);
        return Ok(Binary {
            program: program.into(),
            arguments,
            environment: Vec::new(),
        });
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["xtask", "qemu", "path"])
        .stderr(Stdio::null())
        .output();
    let path = output
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    let Some(path) = path.filter(|path| Path::new(path).is_file()) else {
        let how = "no QEMU with the device: run `cargo xtask qemu build`, or name one in VGPU_QEMU";
        return Err(Skip(how.to_owned()));
    };
    let program = PathBuf::from(path);
    let firmware = program
        .parent()
        .and_then(Path::parent)
        .map(|dir| dir.join("firmware"));
    let arguments = match firmware.filter(|dir| dir.is_dir()) {
        Some(dir) => vec!["-L".to_owned(), dir.display().to_string()],
        None => Vec::new(),
    };
    Ok(Binary {
        program,
        arguments,
        environment: Vec::new(),
    })
}

impl Binary {
    /// The same with these variables in its environment.
    pub fn with_environment(mut self, variables: &[(&str, &str)]) -> Binary {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment.extend(variables.iter().map(owned));
        self
    }

    /// A command that starts it with these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end: status and what it printed, errors last.
    pub fn run(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let output = self
            .command(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("QEMU starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&text).into_owned())
    }
}

/// A directory that goes with its value.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vgpu-qtest-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory for sockets");
        Directory(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left there harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Qemu {
    child: Mutex<Child>,
    qtest: Mutex<Qtest>,
    qmp: Mutex<Qmp>,
    directory: Directory,
}

#[derive(Debug)]
struct Qmp {
    stream: BufReader<UnixStream>,
    /// Events that came before an answer, and that nobody has waited for yet.
    events: Vec<String>,
}

#[derive(Debug)]
struct Qtest {
    stream: BufReader<UnixStream>,
    raised: BTreeSet<u32>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Qemu {
    /// Starts a machine.
    ///
    /// # Panics
    /// When QEMU does not start: with what it printed.
    pub fn start(binary: &Binary, arguments: &[&str]) -> Qemu {
        Self::try_start(binary, arguments)
            .unwrap_or_else(|text| panic!("QEMU did not start: {text}"))
    }

    /// Starts a machine, or tells what QEMU printed when it refused.
    pub fn try_start(binary: &Binary, arguments: &[&str]) -> Result<Qemu, String> {
        let directory = Directory::new();
        let socket = |name: &str| {
            let path = directory.0.join(name);
            let listener = UnixListener::bind(&path).expect("a socket");
            listener.set_nonblocking(true).expect("a socket");
            (listener, format!("unix:{}", path.display()))
        };
        let ((qtest, qtest_at), (qmp, qmp_at)) = (socket("qtest"), socket("qmp"));
        let log = directory.0.join("log").display().to_string();
        let errors = directory.0.join("stderr");
        let stderr = std::fs::File::create(&errors).expect("a file");
        let mut child = binary
            .command(&[
                "-display",
                "none",
                "-nodefaults",
                "-accel",
                "qtest",
                "-m",
                "128M",
            ])
            .args([
                "-qtest",
                &qtest_at,
                "-qtest-log",
                "/dev/null",
                "-qmp",
                &qmp_at,
            ])
            .args(["-d", "guest_errors", "-D", &log])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("QEMU starts");
        let mut accept = |listener: &UnixListener| {
            let began = Instant::now();
            loop {
                if let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).expect("a socket");
                    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                    return Ok(BufReader::new(stream));
                }
                if child.try_wait().expect("a child").is_some() || began.elapsed() > PATIENCE {
                    // Gone already, or never there.
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(std::fs::read_to_string(&errors).unwrap_or_default());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        };
        let (qtest, qmp) = (accept(&qtest)?, accept(&qmp)?);
        let qemu = Qemu {
            child: Mutex::new(child),
            qtest: Mutex::new(Qtest {
                stream: qtest,
                raised: BTreeSet::new(),
            }),
            qmp: Mutex::new(Qmp {
                stream: qmp,
                events: Vec::new(),
            }),
            directory,
        };
        // QMP greets before the devices are made: the first answer tells whether they were.
        let ready = qemu.try_qmp(r#"{"execute":"qmp_capabilities"}"#);
        match ready {
            Some(Ok(_)) => Ok(qemu),
            _ => Err(qemu.wait_for_end().1),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        lock(&self.child).id()
    }

    /// What QEMU wrote to its error stream.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.0.join("stderr")).unwrap_or_default()
    }

    /// What `-d guest_errors` shows so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.0.join("log")).unwrap_or_default()
    }

    /// Waits for the process's end: status and errors.
    pub fn wait_for_end(&self) -> (ExitStatus, String) {
        let began = Instant::now();
        loop {
            if let Some(status) = lock(&self.child).try_wait().expect("a child") {
                return (status, self.stderr());
            }
            assert!(
                began.elapsed() < PATIENCE,
                "QEMU does not end: {}",
                self.stderr()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn command(&self, line: &str) -> String {
        let mut qtest = lock(&self.qtest);
        let sent = qtest
            .stream
            .get_mut()
            .write_all(format!("{line}\n").as_bytes());
        sent.unwrap_or_else(|e| panic!("QEMU is gone ({e}): {}", self.stderr()));
        loop {
            let mut answer = String::new();
            let got = qtest.stream.read_line(&mut answer);
            match got {
                Ok(0) | Err(_) => panic!("QEMU is gone at {line:.60}: {}", self.stderr()),
                Ok(_) => {}
            }
            if let Some(change) = answer.strip_prefix("IRQ ") {
                let (what, pin) = change.trim().split_once(' ').expect("IRQ raise|lower N");
                let pin = pin.parse().expect("a number");
                if what == "raise" {
                    qtest.raised.insert(pin)
                } else {
                    qtest.raised.remove(&pin)
                };
                continue;
            }
            let rest = answer.trim_end().strip_prefix("OK");
            return rest
                .unwrap_or_else(|| panic!("{line:.60}: {answer}"))
                .trim()
                .to_owned();
        }
    }

    fn number(&self, line: &str) -> u64 {
        let text = self.command(line);
        u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .unwrap_or_else(|e| panic!("{line}: {text}: {e}"))
    }

    /// Reads `size` bytes (1, 2, 4 or 8) of guest-physical memory in one access.
    pub fn read(&self, at: u64, size: u32) -> u64 {
        self.number(&format!("read{} {at:#x}", letter(size)))
    }

    /// Writes `size` bytes of guest-physical memory in one access.
    pub fn write(&self, at: u64, size: u32, value: u64) {
        let value = if size < 8 {
            value & ((1 << (8 * size)) - 1)
        } else {
            value
        };
        self.command(&format!("write{} {at:#x} {value:#x}", letter(size)));
    }

    /// Copies guest-physical memory.
    pub fn read_bytes(&self, at: u64, into: &mut [u8]) {
        if into.is_empty() {
            return;
        }
        let text = self.command(&format!("read {at:#x} {:#x}", into.len()));
        let digits = text.trim_start_matches("0x").as_bytes();
        assert_eq!(digits.len(), 2 * into.len());
        let nibble = |c: u8| (c as char).to_digit(16).expect("hexadecimal") as u8;
        for (to, pair) in into.iter_mut().zip(digits.chunks(2)) {
            *to = nibble(pair[0]) << 4 | nibble(pair[1]);
        }
    }

    /// Writes guest-physical memory.
    pub fn write_bytes(&self, at: u64, from: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if from.is_empty() {
            return;
        }
        let mut line = format!("write {at:#x} {:#x} 0x", from.len());
        line.reserve(2 * from.len());
        for byte in from {
            line.push(DIGITS[usize::from(byte >> 4)] as char);
            line.push(DIGITS[usize::from(byte & 15)] as char);
        }
        self.command(&line);
    }

    /// Reads an I/O port.
    pub fn port_in(&self, port: u16, size: u32) -> u32 {
        self.number(&format!("in{} {port:#x}", letter(size))) as u32
    }

    /// Writes an I/O port.
    pub fn port_out(&self, port: u16, size: u32, value: u32) {
        self.command(&format!("out{} {port:#x} {value:#x}", letter(size)));
    }

    /// Reports the input pins of a device from now on.
    pub fn intercept_irqs_in(&self, device: &str) {
        self.command(&format!("irq_intercept_in {device}"));
    }

    /// The pins that are high. Any command first lets changes arrive.
    pub fn raised_pins(&self) -> Vec<u32> {
        self.read(0, 1);
        lock(&self.qtest).raised.iter().copied().collect()
    }

    /// Sends a QMP command and returns the line that answers it.
    ///
    /// # Panics
    /// When it is refused.
    pub fn qmp(&self, command: &str) -> String {
        self.try_qmp(command)
            .expect("QEMU is there")
            .unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// Sends a QMP command: the line that answers it, as `Err` when it is refused; `None` when
    /// QEMU has gone.
    pub fn try_qmp(&self, command: &str) -> Option<Result<String, String>> {
        let mut qmp = lock(&self.qmp);
        let line = format!("{command}\n");
        qmp.stream.get_mut().write_all(line.as_bytes()).ok()?;
        loop {
            let mut line = String::new();
            if qmp.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.starts_with(r#"{"return""#) {
                return Some(Ok(line));
            }
            if line.starts_with(r#"{"error""#) {
                return Some(Err(line));
            }
            qmp.events.push(line);
        }
    }

    /// Waits for a QMP event, `RESET` for example.
    pub fn wait_event(&self, name: &str) {
        let mut qmp = lock(&self.qmp);
        let name = format!(r#""event": "{name}""#);
        loop {
            if let Some(at) = qmp.events.iter().position(|line| line.contains(&name)) {
                qmp.events.drain(..=at);
                return;
            }
            let mut line = String::new();
            let got = qmp.stream.read_line(&mut line);
            assert!(got.is_ok_and(|n| n > 0), "QEMU is gone: {}", self.stderr());
            qmp.events.push(line);
        }
    }

    /// Names of QEMU's threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("QEMU lives");
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            let mut name = String::new();
            // A thread may end meanwhile.
            std::fs::File::open(task.ok()?.path().join("comm"))
                .ok()?
                .read_to_string(&mut name)
                .ok()?;
            Some(name.trim().to_owned())
        };
        tasks.filter_map(name).collect()
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn letter(size: u32) -> char {
    match size {
        1 => 'b',
        2 => 'w',
        4 => 'l',
        8 => 'q',
        other => panic!("an access of {other} bytes"),
    }
}
