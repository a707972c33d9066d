//! One boot: QEMU with the device, the guest's streams, and its end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::accel::{self, Accel};
use super::initramfs::{Initramfs, names};
use super::kernel::Kernel;
use super::options::Options;
use super::script;
use super::streams::{Input, Output, Port};
use crate::run::quoted;
use crate::{interrupt, qemu, shims};

/// A guest that is not up by then is dead: TCG on a busy machine needs less than 10 s.
const BOOT_LIMIT: Duration = Duration::from_secs(180);

/// After it told its exit status the guest has so long to power off.
const POWER_OFF_LIMIT: Duration = Duration::from_secs(20);

/// The slot of the device, the one that the documentation shows.
const DEVICE_ADDRESS: &str = "05.0";

/// The PCI ids of the device's identities, as sysfs spells them.
const DEVICE_IDS: &str = "0x10de:0x2331 0x1234:0x11e9";

/// How the guest ended.
#[derive(Debug)]
pub struct Outcome {
    /// The command's exit status; 124 when time ran out, 130 when we were interrupted.
    pub status: i32,
    /// What it wrote, where that was kept.
    pub stdout: String,
    /// From the start of QEMU to the start of the command.
    pub boot: Duration,
    /// From the start of QEMU to its end.
    pub total: Duration,
    /// The PCI address at which the guest found the device.
    pub device: Option<String>,
    /// What ran the guest's code.
    pub accel: Accel,
}

impl Outcome {
    /// What ran it, and how long that took.
    pub fn timing(&self) -> String {
        format!(
            "{} ({}); device {}; the command started after {:.1} s, all took {:.1} s",
            self.accel.name(),
            self.accel.reason,
            self.device
                .as_deref()
                .map_or_else(|| "not found".to_owned(), |at| format!("at {at}")),
            self.boot.as_secs_f64(),
            self.total.as_secs_f64()
        )
    }
}

/// Boots a guest that runs `words`, or a shell where there are none.
pub fn run(
    options: &Options,
    words: &[OsString],
    input: Input,
    output: &Output,
) -> Result<Outcome> {
    ensure!(
        std::env::consts::ARCH == "x86_64",
        "the guest is an x86-64 machine, this host is {}",
        std::env::consts::ARCH
    );
    let program = match &options.qemu {
        Some(program) => qemu::Installed::plain(program.clone())?,
        None => qemu::installed()?,
    };
    let kernel = Kernel::fetch()?;
    let shims = shims::stage()?;
    let accel = accel::choose(&program.binary, &program.firmware, &kernel)?;
    let machine = Machine::new(options, words, &kernel, &shims)?;
    let ended = Arc::new(AtomicBool::new(false));
    let status = Port::open(machine.directory.path(), "status")?;
    let ports =
        ["stdin", "stdout", "stderr"].map(|name| Port::open(machine.directory.path(), name));
    let [stdin, stdout, stderr] = ports;
    let (stdin, stdout, stderr) = (stdin?, stdout?, stderr?);
    let console = Port::open(machine.directory.path(), "console")?;
    let mut command = machine.command(
        &program,
        &accel,
        &[&status, &stdin, &stdout, &stderr],
        &console,
    )?;
    let (sender, told) = mpsc::channel();
    let start = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("run {}", program.binary.display()))?;
    let mut guest = Guest { child };
    let lines = status.lines(ended.clone(), sender);
    let input = if words.is_empty() { Input::Null } else { input };
    stdin.feed(ended.clone(), input);
    let stdout = stdout.collect(ended.clone(), output.clone(), false);
    let stderr = stderr.collect(ended.clone(), output.clone(), true);
    let shown = if options.console {
        Output::Prefixed("console: ".to_owned())
    } else {
        Output::Capture
    };
    let console = console.collect(ended.clone(), shown, true);

    let mut progress = Progress {
        start,
        up: None,
        device: None,
        exit: None,
        exit_at: None,
    };
    let limit = if words.is_empty() {
        Duration::MAX
    } else {
        options.limit()
    };
    let result = progress.follow(&mut guest.child, &told, limit);
    guest.end();
    ended.store(true, Ordering::Release);
    let _ = lines.join();
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    let (stdout, _, console) = (text(stdout), text(stderr), text(console));
    for line in told.try_iter() {
        progress.take(&line);
    }
    let status = match (result?, progress.exit) {
        (End::Interrupted, _) => 130,
        (End::TimeOut, _) => {
            eprintln!(
                "vm: the guest was ended after {} s (--timeout)",
                options.limit().as_secs()
            );
            124
        }
        (End::PoweredOff, Some(status)) => status,
        (End::PoweredOff, None) => {
            bail!("the guest ended before its command did{}", tail(&console))
        }
        (End::NeverUp, _) => bail!(
            "the guest did not come up in {} s{}",
            BOOT_LIMIT.as_secs(),
            tail(&console)
        ),
    };
    Ok(Outcome {
        status,
        stdout,
        boot: progress.up.unwrap_or_default(),
        total: start.elapsed(),
        device: progress.device,
        accel,
    })
}

/// Why the guest is no more.
enum End {
    PoweredOff,
    NeverUp,
    TimeOut,
    Interrupted,
}

/// What the guest told so far.
struct Progress {
    start: Instant,
    up: Option<Duration>,
    device: Option<String>,
    exit: Option<i32>,
    exit_at: Option<Instant>,
}

impl Progress {
    fn take(&mut self, line: &str) {
        match line.split_once(' ') {
            Some(("up", _)) => self.up = Some(self.start.elapsed()),
            Some(("device", address)) => self.device = Some(address.to_owned()),
            Some(("exit", status)) => {
                self.exit = status.parse().ok();
                self.exit_at = Some(Instant::now());
            }
            _ => {}
        }
    }

    fn follow(
        &mut self,
        child: &mut Child,
        told: &mpsc::Receiver<String>,
        limit: Duration,
    ) -> Result<End> {
        loop {
            if interrupt::happened() {
                return Ok(End::Interrupted);
            }
            if let Some(status) = child.try_wait()? {
                if !status.success() && self.exit.is_none() {
                    bail!("QEMU ended with {status} (its message stands above)");
                }
                return Ok(End::PoweredOff);
            }
            match told.recv_timeout(Duration::from_millis(10)) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(5)),
            }
            if self
                .exit_at
                .is_some_and(|at| at.elapsed() > POWER_OFF_LIMIT)
            {
                return Ok(End::PoweredOff);
            }
            if self.up.is_none() && self.start.elapsed() > BOOT_LIMIT {
                return Ok(End::NeverUp);
            }
            if self.exit.is_none() && self.start.elapsed() > limit {
                return Ok(End::TimeOut);
            }
        }
    }
}

/// A QEMU process that does not outlive us.
struct Guest {
    child: Child,
}

impl Guest {
    fn end(&mut self) {
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

/// The files and the settings of one boot.
struct Machine<'a> {
    options: &'a Options,
    directory: interrupt::Directory,
    kernel: &'a Kernel,
    root: PathBuf,
    shims: PathBuf,
    interactive: bool,
}

impl<'a> Machine<'a> {
    fn new(
        options: &'a Options,
        words: &[OsString],
        kernel: &'a Kernel,
        shims: &Path,
    ) -> Result<Self> {
        let root = match options.root.as_str() {
            "host" => PathBuf::from("/"),
            other => fs::canonicalize(other).with_context(|| format!("--root {other}"))?,
        };
        ensure!(root.is_dir(), "--root {}: not a directory", root.display());
        let user = script::user(&root, &options.user)?;
        let interactive = words.is_empty();
        let mut modules = options.modules.clone();
        if options.nouveau {
            modules.push("nouveau".to_owned());
        }
        let booted: Vec<_> = kernel
            .boot_modules()?
            .into_iter()
            .map(|module| module.name)
            .collect();
        let mut extra = kernel.with_dependencies(&modules)?;
        extra.retain(|module| !booted.contains(&module.name));
        let mut config = format!("DEVICE_IDS={}\n", quoted(DEVICE_IDS));
        config.push_str(&format!("MODULES={}\n", quoted(names(&extra))));
        config.push_str(&format!("AS_USER={}\n", quoted(script::become_user(&user))));
        if options.share.is_some() {
            config.push_str("SHARE=1\n");
        }
        if options.nouveau {
            config.push_str("SHOW_LOG=nouveau\n");
        }
        if interactive {
            config.push_str(&format!("INTERACTIVE={}\n", quoted(terminal_size())));
        }
        let command = script::command(options, &user, words)?;
        let directory = interrupt::Directory::new("vgpu-vm")?;
        fs::write(
            directory.path().join("initramfs"),
            Initramfs::boot(kernel, &config, &command, &extra)?,
        )?;
        Ok(Self {
            options,
            directory,
            kernel,
            root,
            shims: shims.to_owned(),
            interactive,
        })
    }

    fn command(
        &self,
        program: &qemu::Installed,
        accel: &Accel,
        ports: &[&Port],
        console: &Port,
    ) -> Result<Command> {
        let options = self.options;
        // QEMU ends with us, even when we are killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program.binary)
            .args(&program.firmware);
        command.args([
            "-name",
            &format!("vgpu-{}", options.device.vm_id),
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]);
        command.args(["-machine", "q35"]).args(accel.arguments());
        command.args(["-smp", &options.cpus.to_string(), "-m", &options.ram]);
        if !options.no_device {
            command.arg("-device").arg(self.device());
        }
        command
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(self.directory.path().join("initramfs"));
        command.args([
            "-append",
            "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on",
        ]);
        let share = |command: &mut Command, tag: &str, path: &Path, mode: &str| {
            let path = escaped(path);
            command.arg("-fsdev").arg(format!(
                "local,id={tag},path={path},security_model=none,multidevs=remap{mode}"
            ));
            command
                .arg("-device")
                .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        };
        share(&mut command, "root", &self.root, ",readonly=on");
        share(&mut command, "shims", &self.shims, ",readonly=on");
        if let Some(path) = &options.share {
            share(&mut command, "share", path, "");
        }
        command.args(["-device", "virtio-serial-pci,id=ports"]);
        for port in ports {
            let (name, path) = (port.name, escaped(&port.path));
            command
                .arg("-chardev")
                .arg(format!("socket,id={name},path={path}"));
            command.arg("-device").arg(format!(
                "virtserialport,bus=ports.0,chardev={name},name={name}"
            ));
        }
        let console = if self.interactive {
            "stdio,id=console,signal=off".to_owned()
        } else {
            format!("socket,id=console,path={}", escaped(&console.path))
        };
        command.args(["-chardev", &console, "-serial", "chardev:console"]);
        command.args(&options.qemu_args);
        options.device.environment(&mut command)?;
        if options.device.trace {
            // Tracing of the device and the mediator is switched by QEMU's trace events.
            command.args(["-trace", "vgpu_stub_*"]);
        }
        if !self.interactive {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        Ok(command)
    }

    fn device(&self) -> String {
        let mut device = format!("vgpu-stub,addr={DEVICE_ADDRESS}");
        for (name, value) in self.options.device.properties() {
            device.push_str(&format!(",{name}={}", value.replace(',', ",,")));
        }
        device
    }
}

/// The end of what the guest's kernel said, for an error message.
fn tail(console: &str) -> String {
    let lines: Vec<_> = console.lines().collect();
    let tail = lines
        .get(lines.len().saturating_sub(25)..)
        .unwrap_or_default();
    if tail.is_empty() {
        String::new()
    } else {
        format!("; its console:\n  {}", tail.join("\n  "))
    }
}

/// A path as the value of one of QEMU's options, where a comma ends the value.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The arguments of `stty` that give the guest's console the size of this terminal.
fn terminal_size() -> String {
    let size = Command::new("stty")
        .arg("size")
        .stderr(Stdio::null())
        .stdin(Stdio::inherit())
        .output();
    let text = size
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        [rows, columns] => format!("rows {rows} cols {columns}"),
        _ => "rows 24 cols 80".to_owned(),
    }
}
