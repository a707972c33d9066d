//! QEMU's command line, and the files that one boot needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::accel::Accel;
use super::initramfs::{Errand, Initramfs, names};
use super::kernel::Kernel;
use super::options::Options;
use super::script;
use super::streams::Port;
use crate::run::quoted;
use crate::{cache, interrupt, qemu};

/// The slot of the device, the one that the documentation shows.
const DEVICE_ADDRESS: &str = "05.0";

/// The PCI ids of the device's identities, as sysfs spells them.
const DEVICE_IDS: &str = "0x10de:0x2331 0x1234:0x11e9";

/// The kernel's command line. Its check of the timer counts ticks for some milliseconds, and a guest that is emulated on a
/// busy machine may see none and stop there: it is left out.
const KERNEL_WORDS: &str =
    "console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on no_timer_check";

/// The files and the settings of one boot.
pub struct Machine<'a> {
    pub options: &'a Options,
    /// Removed at the end.
    pub directory: interrupt::Directory,
    kernel: &'a Kernel,
    root: PathBuf,
    shims: PathBuf,
    /// A shell on the console instead of a command.
    pub interactive: bool,
    /// Where the loader's cache of this root with these shims is kept.
    pub loader_cache: PathBuf,
}

impl<'a> Machine<'a> {
    /// Prepares all files.
    pub fn new(
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
        if !options.forwards.is_empty() {
            modules.push("virtio_net".to_owned());
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
        if !options.forwards.is_empty() {
            config.push_str("NETWORK=1\n");
        }
        if options.nouveau {
            config.push_str("SHOW_LOG=nouveau\n");
        }
        if interactive {
            config.push_str(&format!("INTERACTIVE={}\n", quoted(terminal_size())));
        }
        let loader_cache = loader_cache(&root, shims)?;
        let errand = Errand {
            config,
            command: script::command(options, &user, words)?,
            loader_cache: fs::read_to_string(&loader_cache).ok(),
        };
        let directory = interrupt::Directory::new("vgpu-vm")?;
        fs::write(
            directory.path().join("initramfs"),
            Initramfs::boot(kernel, &errand, &extra)?,
        )?;
        Ok(Self {
            options,
            directory,
            kernel,
            root,
            shims: shims.to_owned(),
            interactive,
            loader_cache,
        })
    }

    /// The command that starts QEMU.
    pub fn command(
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
        command.args(["-append", KERNEL_WORDS]);
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
        if !options.forwards.is_empty() {
            let mut network = "user,id=net,restrict=on".to_owned();
            for (host, guest) in &options.forwards {
                network.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"));
            }
            command.args(["-netdev", &network]);
            command.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
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

/// The loader's cache in the guest depends on the root's own and on the names of the shims.
fn loader_cache(root: &Path, shims: &Path) -> Result<PathBuf> {
    let own = fs::read(root.join("etc/ld.so.cache")).unwrap_or_default();
    let lib = shims.join("lib");
    let mut names = Vec::new();
    for entry in fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))? {
        names.push(entry?.file_name());
    }
    names.sort();
    let key = cache::hash(&(root, own, names));
    Ok(cache::dir("guest-kernel")?.join(format!("loader-cache-{key}")))
}
