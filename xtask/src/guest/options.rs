//! What a guest is made of, as the command line names it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};

use crate::device::Device;

/// The options of one guest.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The guest's root: `host` for this machine's own root, or a directory with a tree; read-only, with a tmpfs over it
    #[arg(long, value_name = "host|DIR", default_value = "host")]
    pub root: String,

    /// A directory of the host that the guest may write, as /share
    #[arg(long, value_name = "DIR")]
    pub share: Option<PathBuf>,

    /// The user in the guest who runs the command (a name of the root's /etc/passwd)
    #[arg(long, value_name = "NAME", default_value = "root")]
    pub user: String,

    /// Where the command starts [default: this directory with `--root host`, else /]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// Sets (NAME=VALUE) or hands on (NAME) a variable; may be repeated. VGPU_LOG, VGPU_SYNC, VGPU_DEVICE and CUDA_* are handed on anyway
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    pub environment: Vec<String>,

    /// The device
    #[command(flatten)]
    pub device: Device,

    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=255))]
    pub cpus: u32,

    /// Memory of the guest
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    pub ram: String,

    /// Loads a module of the guest's kernel, with what it needs, before the command; may be repeated
    #[arg(long = "module", value_name = "NAME")]
    pub modules: Vec<String>,

    /// Gives the guest a network card on which a port of this host's loopback leads to one of the guest's; may be repeated. The guest reaches
    /// nothing else through it
    #[arg(long = "forward", value_name = "HOST:GUEST", value_parser = ports)]
    pub forwards: Vec<(u16, u16)>,

    /// Loads nouveau before the command and shows what it wrote to the kernel's log
    #[arg(long)]
    pub nouveau: bool,

    /// Ends the guest after so many seconds, with exit status 124 (a shell has no limit) [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: Option<u64>,

    /// Shows the guest's console
    #[arg(long)]
    pub console: bool,

    /// One more argument for QEMU; may be repeated
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_args: Vec<String>,

    /// Another QEMU than the one this command builds
    #[arg(long, value_name = "PROGRAM")]
    pub qemu: Option<PathBuf>,

    /// Builds nothing: takes QEMU and the guest's libraries as the last build left them
    #[arg(long)]
    pub no_build: bool,

    /// Boots without the device, as on a machine that has none
    #[arg(long)]
    pub no_device: bool,
}

/// Two port numbers.
fn ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("'{text}' is not HOST:GUEST, two port numbers from 1 to 65535");
    let (host, guest) = text.split_once(':').ok_or_else(wrong)?;
    let port = |text: &str| text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong);
    Ok((port(host)?, port(guest)?))
}

impl Options {
    /// How long a command may take.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(3600))
    }
}

impl Default for Options {
    /// What the command line gives when nothing is said.
    fn default() -> Self {
        #[derive(Parser)]
        struct Empty {
            #[command(flatten)]
            options: Options,
        }
        Empty::parse_from(["vm"]).options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let options = Options::default();
        assert_eq!((options.device.vm_id, options.root.as_str()), (111, "host"));
        assert_eq!(options.user, "root");
        assert_eq!(options.limit(), Duration::from_secs(3600));
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_value() {
        for (flag, value) in [
            ("--vm-id", "0"),
            ("--vm-id", "4294967296"),
            ("--cpus", "0"),
            ("--identity", "gtx"),
            ("--forward", "80"),
            ("--forward", "0:80"),
            ("--forward", "80:65536"),
        ] {
            let error = Line::try_parse_from(["vm", flag, value])
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(value) && error.contains(flag), "{error}");
        }
    }
}
