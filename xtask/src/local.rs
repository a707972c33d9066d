//! `cargo xtask local`: the device without QEMU, and a command that uses it with the guest's libraries.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::device::Device;
use crate::interrupt::{self, Directory};
use crate::{progress, run, shims, workspace};

/// Runs a command on this host with the device's rings and mediator, without QEMU
///
/// The exit status is the command's. Without a command the variables are printed that a program needs, and the
/// device serves until Ctrl-C.
#[derive(Args)]
pub struct Local {
    #[command(flatten)]
    device: Device,

    /// Runs the command in a directory with a Linux system, such as `cargo xtask guest-tree` makes
    #[arg(long, value_name = "DIR", requires = "command")]
    root: Option<PathBuf>,

    /// With --root: a directory that the command sees as /share
    #[arg(long, value_name = "DIR", requires = "root")]
    share: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, value_name = "CMD", id = "command")]
    command: Vec<OsString>,
}

impl Local {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let served = Served::start(&self.device)?;
        let mut command = match (self.command.as_slice(), &self.root) {
            ([], _) => {
                for (name, value) in served.environment() {
                    println!("export {name}={}", run::quoted(value));
                }
                return served.wait();
            }
            (words, Some(root)) => served.in_root(root, self.share.as_deref(), words)?,
            ([program, words @ ..], None) => {
                let mut command = Command::new(program);
                command.args(words).envs(served.environment());
                command
            }
        };
        let child = command
            .spawn()
            .with_context(|| format!("run {}", run::shown(&command)))?;
        let status = finish(child)?;
        Ok(ExitCode::from(exit_code(status)))
    }
}

/// A running `vgpu-local`, ended and cleaned up on drop.
pub struct Served {
    child: Child,
    socket: PathBuf,
    libraries: PathBuf,
    _directory: Directory,
}

impl Served {
    /// Builds what is needed and starts it.
    pub fn start(device: &Device) -> Result<Self> {
        let stage = shims::stage()?;
        let program = build()?;
        let directory = Directory::new("vgpu-local")?;
        let socket = directory.path().join("socket");
        // It ends with us, even when we are killed.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .arg("--socket")
            .arg(&socket);
        for (name, value) in device.properties() {
            command
                .arg(format!("--{}", name.replace('_', "-")))
                .arg(value);
        }
        device.environment(&mut command)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", run::shown(&command)))?;
        let mut line = String::new();
        let output = child.stdout.take().context("vgpu-local has no output")?;
        BufReader::new(output).read_line(&mut line)?;
        if !line.starts_with("listening on ") {
            bail!(
                "vgpu-local did not start: {} (its message stands above)",
                child.wait()?
            );
        }
        Ok(Self {
            child,
            socket,
            libraries: stage.join("lib"),
            _directory: directory,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The variables with which a program uses it.
    pub fn environment(&self) -> [(&'static str, OsString); 2] {
        let mut path = self.libraries.clone().into_os_string();
        // cargo's own directories are of no use to the program.
        if let Some(old) =
            std::env::var_os("LD_LIBRARY_PATH").filter(|_| std::env::var_os("CARGO").is_none())
        {
            path.push(":");
            path.push(old);
        }
        [
            ("LD_LIBRARY_PATH", path),
            ("VGPU_LOCAL", self.socket.clone().into_os_string()),
        ]
    }

    /// A command in another system's directory, which sees the device and the libraries of today.
    pub fn in_root(
        &self,
        root: &Path,
        share: Option<&Path>,
        words: &[OsString],
    ) -> Result<Command> {
        let root = directory("--root", root)?;
        let sockets = self.socket.parent().context("the socket has no folder")?;
        let mut script = ROOT_SCRIPT.to_owned();
        let mut binds = vec![(sockets.to_owned(), "run/vgpu-stub/socket")];
        binds.push((self.libraries.clone(), "run/vgpu-stub/lib"));
        if let Some(share) = share {
            binds.push((directory("--share", share)?, "share"));
        }
        for (from, to) in &binds {
            let to = root.join(to);
            script.push_str(&format!(
                "mkdir -p {to} && mount --bind {} {to}\n",
                run::quoted(from),
                to = run::quoted(&to)
            ));
        }
        script.push_str("shift\nexec chroot \"$root\" \"$@\"\n");
        // Mounts of its own, which are gone with the command.
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if std::fs::metadata("/proc/self")?.uid() != 0 {
            command.arg("--map-root-user");
        }
        command.args(["--", "sh", "-euc", &script, "sh"]).arg(&root);
        command.args(words);
        command.env("LD_LIBRARY_PATH", "/run/vgpu-stub/lib");
        command.env("VGPU_LOCAL", "/run/vgpu-stub/socket/socket");
        // Those of this system mean nothing there.
        command.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        command.env("HOME", "/root").env("TMPDIR", "/tmp");
        Ok(command)
    }

    fn wait(mut self) -> Result<ExitCode> {
        loop {
            if interrupt::happened() {
                return Ok(ExitCode::SUCCESS);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("vgpu-local ended: {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // What went wrong after that has one cause, which no program can see.
        if let Ok(Some(status)) = self.child.try_wait() {
            eprintln!("vgpu-local ended by itself: {status}");
        }
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives the command in another root what programs expect of a running system. `$1` is the root.
const ROOT_SCRIPT: &str = "root=$1
mount --rbind /proc \"$root/proc\"
mount --rbind /dev \"$root/dev\"
mount --rbind /sys \"$root/sys\"
mount -t tmpfs tmpfs \"$root/run\"
mount -t tmpfs tmpfs \"$root/tmp\"
";

/// The absolute path of a directory that an option names.
fn directory(option: &str, path: &Path) -> Result<PathBuf> {
    let absolute =
        std::fs::canonicalize(path).with_context(|| format!("{option} {}", path.display()))?;
    ensure!(
        absolute.is_dir(),
        "{option} {}: not a directory",
        path.display()
    );
    Ok(absolute)
}

/// Builds `vgpu-local`.
fn build() -> Result<PathBuf> {
    let mut step = progress::step("vgpu-local");
    let mut build = Command::new(workspace::cargo());
    build
        .current_dir(workspace::root())
        .args(["build", "--release"]);
    step.run(
        // The second is what the first starts with --isolation process.
        build.args(["--package", "vgpu-stub"]).args([
            "--bin",
            "vgpu-local",
            "--bin",
            "vgpu-worker",
        ]),
        "vgpu-local",
    )?;
    let program = workspace::target()?.join("release/vgpu-local");
    ensure!(program.is_file(), "cargo built no {}", program.display());
    step.done("built");
    Ok(program)
}

/// Waits for the command; after Ctrl-C, which it got as well, not for ever.
pub fn finish(mut child: Child) -> Result<ExitStatus> {
    let mut patience = Duration::from_secs(5);
    const STEP: Duration = Duration::from_millis(10);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupt::happened() {
            patience = patience.saturating_sub(STEP);
            if patience.is_zero() {
                child.kill()?;
            }
        }
        std::thread::sleep(STEP);
    }
}

/// As a shell gives it: 128 and the signal where one ended the command.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).unwrap_or(u8::MAX)
}
