//! KVM or TCG: which of the two runs the guest, and why.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::initramfs::Initramfs;
use super::kernel::Kernel;
use crate::cache;

/// A probe guest that has not spoken by then never will: the same guest needs 1 s under TCG.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// What the probe guest says on its console.
const PROBE_WORD: &str = "vgpu-guest-probe-is-alive";

/// The accelerator of a guest.
#[derive(Clone, Debug)]
pub struct Accel {
    /// True where the CPU runs the guest's code.
    pub kvm: bool,
    /// Why it was chosen.
    pub reason: String,
}

impl Accel {
    /// QEMU's arguments for it.
    pub fn arguments(&self) -> &'static [&'static str] {
        if self.kvm {
            &["-accel", "kvm", "-cpu", "host"]
        } else {
            &["-accel", "tcg,thread=multi", "-cpu", "max"]
        }
    }

    /// Its name, as QEMU spells it.
    pub fn name(&self) -> &'static str {
        if self.kvm { "KVM" } else { "TCG" }
    }
}

/// Chooses. `/dev/kvm` can open and still not run an ordinary guest, so a small one has to come up first;
/// what it showed is remembered until the machine boots again.
pub fn choose(qemu: &Path, firmware: &[String], kernel: &Kernel) -> Result<Accel> {
    let tcg = |reason: &str| Accel {
        kvm: false,
        reason: reason.to_owned(),
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if !has_virtualization(&cpuinfo) {
        return Ok(tcg("the CPU shows neither vmx nor svm"));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(tcg(&format!("/dev/kvm does not open: {error}")));
    }
    let stamp = cache::dir("guest-kernel")?.join("kvm-probe");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {}", boot.trim(), kernel.release);
    let remembered = fs::read_to_string(&stamp).unwrap_or_default();
    let alive = match remembered.split_once('\n') {
        Some((old, answer)) if old == key => answer == "alive",
        _ => {
            let alive = probe(qemu, firmware, kernel)?;
            fs::write(
                &stamp,
                format!("{key}\n{}", if alive { "alive" } else { "dead" }),
            )?;
            alive
        }
    };
    Ok(if alive {
        Accel {
            kvm: true,
            reason: "a probe guest came up".to_owned(),
        }
    } else {
        tcg("a probe guest under KVM did not come up")
    })
}

fn has_virtualization(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim() == "flags")
        .any(|(_, flags)| {
            flags
                .split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

fn probe(qemu: &Path, firmware: &[String], kernel: &Kernel) -> Result<bool> {
    let dir = cache::dir("guest-kernel")?;
    let (initramfs, log) = (dir.join("probe.cpio"), dir.join("probe.log"));
    fs::write(&initramfs, Initramfs::probe(PROBE_WORD)?)?;
    let mut child = Command::new(qemu)
        .args(firmware)
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
            "-m",
            "512",
            "-accel",
            "kvm",
            "-cpu",
            "host",
        ])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1", "-serial"])
        .arg(format!("file:{}", log.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {}", qemu.display()))?;
    let start = Instant::now();
    let alive = loop {
        if fs::read(&log).is_ok_and(|text| String::from_utf8_lossy(&text).contains(PROBE_WORD)) {
            break true;
        }
        if child.try_wait()?.is_some() || start.elapsed() > PROBE_LIMIT {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    Ok(alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words_of_the_flags_line() {
        assert!(has_virtualization(
            "model name\t: x\nflags\t\t: fpu svm sse\n"
        ));
        assert!(has_virtualization("flags\t\t: vmx\n"));
        assert!(!has_virtualization("flags\t\t: fpu svm_lock\n"));
        assert!(!has_virtualization(
            "vmx flags\t: vnmi\nmodel name\t: svm vmx\n"
        ));
    }
}
