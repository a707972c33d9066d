//! Where a CUDA program finds its driver.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::report::Report;
use crate::{Options, PROGRAM_LIMIT};

/// Names of the columns, in order.
pub const NAMES: [&str; 3] = ["soft", "cuda", "native"];

/// One column of the table.
pub struct Target {
    /// `soft` and `cuda`: through the device with that backend; `native`: NVIDIA's libcuda itself.
    pub name: &'static str,
    root: PathBuf,
    out: PathBuf,
    served: Option<Served>,
}

/// `vgpu-local`, ended on drop.
struct Served {
    child: Child,
    socket: PathBuf,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself; then both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a program ended.
pub struct Ended {
    /// What it wrote to its standard output.
    pub stdout: String,
    /// Its status; none when it was killed because its time was over.
    pub status: Option<ExitStatus>,
    /// The last lines of its standard error.
    pub complaint: String,
}

impl Target {
    /// Those that this machine has; why the others are missing goes into the report.
    pub fn all(options: &Options, report: &mut Report) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for name in NAMES {
            match Target::open(options, name) {
                Ok(target) => {
                    let device = target.device();
                    match device {
                        Ok(device) => {
                            report.target(name, Ok(device));
                            targets.push(target);
                        }
                        // The software GPU works everywhere.
                        Err(error) if name == "soft" => return Err(error.context("soft")),
                        Err(error) => report.target(name, Err(format!("{error:#}"))),
                    }
                }
                Err(error) if name == "soft" => return Err(error.context("soft")),
                Err(error) => report.target(name, Err(format!("{error:#}"))),
            }
        }
        Ok(targets)
    }

    fn open(options: &Options, name: &'static str) -> Result<Target> {
        let served = match name {
            "native" => None,
            backend => Some(serve(options, backend)?),
        };
        Ok(Target {
            name,
            root: options.root.clone(),
            out: options.out.clone(),
            served,
        })
    }

    /// The device's name, as a program sees it.
    fn device(&self) -> Result<String> {
        let ended = self.run("cuda-kernels", &["--device"], "device")?;
        match ended
            .stdout
            .lines()
            .find_map(|l| l.strip_prefix("device: "))
        {
            Some(name) if ended.status.is_some_and(|s| s.success()) => Ok(name.to_owned()),
            _ => bail!("{}", ended.complaint),
        }
    }

    /// Runs a program of the bundle on this target; its output is kept as `NAME.TARGET.log`.
    pub fn run(&self, program: &str, arguments: &[&str], name: &str) -> Result<Ended> {
        self.command(&self.root.join("bin").join(program), arguments, None, name)
    }

    /// Runs another program, whose libraries are in `libraries`.
    pub fn run_file(
        &self,
        program: &Path,
        arguments: &[&str],
        libraries: &Path,
        name: &str,
    ) -> Result<Ended> {
        self.command(program, arguments, Some(libraries), name)
    }

    fn command(
        &self,
        program: &Path,
        arguments: &[&str],
        libraries: Option<&Path>,
        name: &str,
    ) -> Result<Ended> {
        let mut command = Command::new(program);
        command.args(arguments);
        let mut path: Vec<PathBuf> = libraries.into_iter().map(Path::to_owned).collect();
        match &self.served {
            Some(served) => {
                command.env("VGPU_LOCAL", &served.socket);
                path.insert(0, self.root.join("shims/lib"));
            }
            None => {
                command.env_remove("VGPU_LOCAL");
            }
        }
        // Where NVIDIA's libraries lie on this machine is in the user's own path.
        path.extend(
            std::env::var_os("LD_LIBRARY_PATH")
                .iter()
                .flat_map(std::env::split_paths),
        );
        if !path.is_empty() {
            command.env("LD_LIBRARY_PATH", std::env::join_paths(path)?);
        }
        run(command, &self.out.join(format!("{name}.{}", self.name)))
    }
}

/// Size of BAR1: in its upper half is room for the largest pinned buffer that is measured, 1 GiB.
const BAR1_BYTES: &str = "4294967296";

/// Starts the device without QEMU.
fn serve(options: &Options, backend: &str) -> Result<Served> {
    let socket = options.out.join(format!("{backend}.socket"));
    let _ = std::fs::remove_file(&socket);
    let log = File::create(options.out.join(format!("vgpu-local.{backend}.log")))?;
    let mut child = Command::new(options.root.join("bin/vgpu-local"))
        .arg("--socket")
        .arg(&socket)
        .args(["--backend", backend, "--bar1-size", BAR1_BYTES])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("run vgpu-local")?;
    let mut line = String::new();
    let output = child.stdout.take().context("vgpu-local has no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let served = Served { child, socket };
    if !line.starts_with("listening on ") {
        let log = options.out.join(format!("vgpu-local.{backend}.log"));
        bail!("{}", last_line(&std::fs::read_to_string(log)?));
    }
    Ok(served)
}

fn last_line(text: &str) -> String {
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .trim()
        .to_owned()
}

/// Runs a command with the program's time limit.
pub fn run(mut command: Command, log: &std::path::Path) -> Result<Ended> {
    let paths = [log.with_extension("out"), log.with_extension("err")];
    let shown = format!("{:?}", command.get_program());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&paths[0])?)
        .stderr(File::create(&paths[1])?)
        .spawn()
        .with_context(|| format!("run {shown}"))?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PROGRAM_LIMIT {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let complaint = match status {
        None => format!("killed after {} s", PROGRAM_LIMIT.as_secs()),
        Some(_) => last_line(&read(&paths[1])?),
    };
    Ok(Ended {
        stdout: read(&paths[0])?,
        status,
        complaint,
    })
}
