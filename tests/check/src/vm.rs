//! Virtual machines with the device. The guest's initramfs runs the tests by itself and writes to its console.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Result, anyhow};
use serde_json::{Map, Value};

use crate::report::{Outcome, Report};
use crate::target::{self, Ended};
use crate::{Options, machine};

/// What the guest writes before each result.
const MARK: &str = "VGPU-CHECK ";

/// Boots machines.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let qemu = options.root.join("qemu/qemu-system-x86_64");
    if !qemu.is_file() {
        report.case(
            "virtual machines",
            "vm",
            Outcome::Skipped("the bundle has no QEMU (--without qemu)".to_owned()),
        );
        return Ok(());
    }
    let mut kvm = machine::kvm();
    if kvm == "yes"
        && !speaks(&boot(
            options,
            "kvm-probe",
            &["-accel", "kvm", "-cpu", "host"],
            "probe",
            None,
        )?)
    {
        kvm = "no: a probe guest under KVM did not come up".to_owned();
    }
    let accel: &[&str] = if kvm == "yes" {
        &["-accel", "kvm", "-cpu", "host", "-smp", "2"]
    } else {
        // One processor: of several emulated ones on a busy machine the timer of one may stay silent.
        &["-accel", "tcg", "-cpu", "max", "-smp", "1"]
    };
    report.fact(
        "guests run under",
        if kvm == "yes" {
            "KVM".to_owned()
        } else {
            format!("TCG; KVM {kvm}")
        },
    );
    for backend in ["soft", "cuda"] {
        if let Some(why) = report.missing(backend) {
            report.case(
                &format!("machine with backend={backend}"),
                "vm",
                Outcome::Skipped(why),
            );
            continue;
        }
        // A comma in a property's value is written twice.
        let worker = options.root.join("bin/vgpu-worker").display().to_string();
        let worker = worker.replace(',', ",,");
        let device = |id| format!("vgpu-stub,vm_id={id},backend={backend},worker={worker}");
        let one = boot(
            options,
            &format!("vm-{backend}"),
            accel,
            "full",
            Some(&device(111)),
        )?;
        take(report, &one, &format!("vm {backend}"));
        // Two at once, each with its own device on the same GPU.
        let two = |task: &'static str| {
            thread::scope(|scope| {
                [111, 112]
                    .map(|id| {
                        let device = device(id);
                        let name = format!("vm-{backend}-{task}-{id}");
                        scope.spawn(move || boot(options, &name, accel, task, Some(&device)))
                    })
                    .map(|thread| {
                        thread
                            .join()
                            .unwrap_or_else(|_| Err(anyhow!("the thread panicked")))
                    })
            })
        };
        for (id, ended) in [111, 112].into_iter().zip(two("full")) {
            let what = format!("vm {backend}, two at once, vm_id={id}");
            take(report, &ended?, &what);
        }
        if kvm != "yes" {
            let why = "what a guest under TCG does says nothing of the device".to_owned();
            report.case("measurements in machines", backend, Outcome::Skipped(why));
            continue;
        }
        let name = format!("vm-{backend}-measure");
        let alone = boot(options, &name, accel, "measure", Some(&device(111)))?;
        for (name, value) in values(&alone) {
            report.value(&format!("in a VM: {name}"), backend, value);
        }
        let [one, other] = two("measure").map(|ended| ended.map(|ended| values(&ended)));
        let other = other?;
        for (name, value) in one? {
            // What counts per second adds up; of times the mean is shown.
            let Some(second) = other.get(&name) else {
                continue;
            };
            let sum = value + second;
            let both = if name.ends_with("_per_s") {
                sum
            } else {
                sum / 2.0
            };
            report.value(&format!("two VMs at once: {name}"), backend, both);
        }
    }
    Ok(())
}

fn speaks(ended: &Ended) -> bool {
    ended.stdout.contains(MARK)
}

/// What a guest has measured.
fn values(ended: &Ended) -> BTreeMap<String, f64> {
    let lines = ended.stdout.lines();
    let objects = lines.filter_map(|line| line.split_once(MARK)?.1.strip_prefix("VALUES "));
    let parsed = objects.filter_map(|text| serde_json::from_str::<Map<_, _>>(text.trim()).ok());
    parsed
        .flatten()
        .filter_map(|(name, value): (String, Value)| Some((name, value.as_f64()?)))
        .collect()
}

/// Results of a guest.
fn take(report: &mut Report, ended: &Ended, what: &str) {
    let mut done = false;
    for line in ended.stdout.lines() {
        let Some((_, line)) = line.split_once(MARK) else {
            continue;
        };
        match line.trim().split_once(' ') {
            Some(("PASS", name)) => report.case(&format!("{what}: {name}"), "vm", Outcome::Passed),
            Some(("FAIL", name)) => report.case(
                &format!("{what}: {name}"),
                "vm",
                Outcome::Failed("see the console's output".to_owned()),
            ),
            _ => done |= line.trim() == "DONE",
        }
    }
    if !done {
        let why = format!("the guest did not end its tests: {}", ended.complaint);
        report.case(what, "vm", Outcome::Failed(why));
    }
}

/// Boots the bundle's guest; its console is the output.
fn boot(
    options: &Options,
    name: &str,
    accel: &[&str],
    task: &str,
    device: Option<&str>,
) -> Result<Ended> {
    let qemu = options.root.join("qemu");
    let mut command = Command::new(qemu.join("lib/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(qemu.join("lib"))
        .arg(qemu.join("qemu-system-x86_64"));
    command.arg("-L").arg(qemu.join("firmware"));
    command.args([
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "q35",
        "-m",
        "1G",
    ]);
    command.args(accel);
    if let Some(device) = device {
        command.args(["-device", device]);
    }
    let file = |name: &str| -> Box<Path> { qemu.join(name).into() };
    command
        .arg("-kernel")
        .arg(file("vmlinuz").as_ref())
        .arg("-initrd")
        .arg(file("initramfs").as_ref());
    // An emulated guest on a busy machine may miss the ticks that the kernel's check waits for.
    let words = format!(
        "console=ttyS0 quiet loglevel=3 panic=-1 random.trust_cpu=on no_timer_check vgpu.task={task}"
    );
    command.args(["-append", &words, "-serial", "stdio"]);
    command.env_remove("LD_LIBRARY_PATH");
    target::run(command, &options.out.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_s_measurements_are_found_on_its_console() {
        let ended = Ended {
            stdout: "boot\r\n[1.0] VGPU-CHECK VALUES {\"a\": 2.5, \"b\": \"why\"}\r\nVGPU-CHECK DONE\r\n"
                .to_owned(),
            status: None,
            complaint: String::new(),
        };
        assert_eq!(values(&ended), BTreeMap::from([("a".to_owned(), 2.5)]));
    }
}
