//! The device on the PCI bus: is it there, may it be opened, does the kernel allow it.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::report::Report;

/// Vendor and device of each identity, and its name in `-device vgpu-stub,identity=`.
const IDENTITIES: [(&str, &str, &str); 2] =
    [("0x10de", "0x2331", "h100"), ("0x1234", "0x11e9", "stub")];

/// BAR0 of the device, in bytes: a real H100 that is passed through has another.
const BAR0_BYTES: u64 = 512 << 10;

const RULE: &str = "60-vgpu-stub.rules";
const RULE_FOLDERS: [&str; 3] = [
    "/etc/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
];

fn word(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Looks for the device below `sysfs`.
pub fn check(report: &mut Report, sysfs: &Path) {
    let mut found = Vec::new();
    for entry in fs::read_dir(sysfs).into_iter().flatten().flatten() {
        let folder = entry.path();
        let (vendor, device) = (word(&folder.join("vendor")), word(&folder.join("device")));
        let identity = IDENTITIES
            .iter()
            .find(|i| (i.0, i.1) == (vendor.as_str(), device.as_str()));
        let bytes = fs::metadata(folder.join("resource0")).map_or(0, |meta| meta.len());
        if let Some((.., name)) = identity {
            found.push((
                entry.file_name().to_string_lossy().into_owned(),
                *name,
                bytes,
            ));
        }
    }
    found.sort();
    if !found.iter().any(|(.., bytes)| *bytes == BAR0_BYTES) {
        let others = found.len();
        let hint = if others > 0 {
            " (there is a device with these ids, but its BAR0 is not vgpu-stub's: a real GPU)"
        } else {
            ""
        };
        return report.wrong(
            "device",
            format_args!(
                "no 10de:2331 or 1234:11e9 of vgpu-stub on the PCI bus{hint}: start the VM with -device vgpu-stub,vm_id=N"
            ),
        );
    }
    for (address, identity, _) in found.iter().filter(|(.., bytes)| *bytes == BAR0_BYTES) {
        report.good("device", format_args!("{address}, identity={identity}"));
        files(report, &sysfs.join(address));
        driver(report, &sysfs.join(address));
    }
}

/// Whether this user may open the files that are mapped.
fn files(report: &mut Report, folder: &Path) {
    for name in ["resource0", "resource1"] {
        let path = folder.join(name);
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(_) => report.good(
                "permission",
                format_args!("{} can be opened", path.display()),
            ),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let (mode, group) =
                    fs::metadata(&path).map_or((0, 0), |m| (m.mode() & 0o777, m.gid()));
                let group = group_name(group, &word(Path::new("/etc/group")));
                let installed = RULE_FOLDERS
                    .iter()
                    .any(|f| Path::new(f).join(RULE).exists());
                let hint = match (installed, mode & 0o060) {
                    (true, 0o060) => format!("add the user to the group {group}, and log in again"),
                    (true, _) => format!(
                        "the udev rule {RULE} is installed but was not applied: udevadm control --reload && udevadm trigger"
                    ),
                    (false, _) => format!("install the udev rule {RULE} (package vgpu-stub-guest)"),
                };
                report.wrong(
                    "permission",
                    format_args!(
                        "{} (mode {mode:03o}, group {group}): {hint}",
                        path.display()
                    ),
                );
            }
            Err(error) => report.wrong("permission", format_args!("{}: {error}", path.display())),
        }
    }
}

/// A group's name in the text of /etc/group; its number where it has none.
fn group_name(id: u32, text: &str) -> String {
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| id.to_string())
}

/// Which kernel driver holds the device.
fn driver(report: &mut Report, folder: &Path) {
    let bound = fs::read_link(folder.join("driver")).ok();
    let name = bound.and_then(|path| path.file_name().map(|n| n.to_string_lossy().into_owned()));
    match name.as_deref() {
        None => report.good(
            "driver",
            "no kernel driver holds the device: none is needed",
        ),
        Some(name @ ("uio_pci_generic" | "vfio-pci")) => {
            report.good("driver", format_args!("{name} is bound"));
        }
        Some(name) => report.doubtful(
            "driver",
            format_args!(
                "the kernel driver {name} holds the device: unbind it where programs fail"
            ),
        ),
    }
}

/// Whether the kernel forbids mapping the files.
pub fn kernel(report: &mut Report, lockdown: &Path) {
    let text = word(lockdown);
    let mode = text
        .split('[')
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    match mode {
        None | Some("none") => report.good("lockdown", "off"),
        Some(mode) => report.wrong(
            "lockdown",
            format_args!(
                "on ({mode}): the device's files cannot be mapped. Boot the VM without Secure Boot"
            ),
        ),
    }
}

/// Whether this is a container, where devices and files may be hidden: a hint where something is wrong.
pub fn container(report: &mut Report, root: &Path) {
    let marks = [".dockerenv", "run/.containerenv", "run/systemd/container"];
    let found = marks.iter().find(|mark| root.join(mark).exists());
    if let Some(mark) = found {
        report.doubtful(
            "container",
            format_args!(
                "this is a container (/{mark}): it needs /sys writable (docker: -v /sys:/sys, --privileged or a mount of the \
                 device's folder) and the guest package inside"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("vgpu-doctor-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn device(sysfs: &Path, ids: (&str, &str), bytes: u64) {
        let folder = sysfs.join("0000:00:05.0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("vendor"), format!("{}\n", ids.0)).unwrap();
        fs::write(folder.join("device"), format!("{}\n", ids.1)).unwrap();
        for name in ["resource0", "resource1"] {
            let file = fs::File::create(folder.join(name)).unwrap();
            file.set_len(bytes).unwrap();
        }
    }

    #[test]
    fn both_identities_are_found_and_a_real_gpu_is_not_ours() {
        let sysfs = folder("bus");
        for (ids, identity) in [
            (("0x10de", "0x2331"), "h100"),
            (("0x1234", "0x11e9"), "stub"),
        ] {
            device(&sysfs, ids, BAR0_BYTES);
            let mut report = Report::default();
            check(&mut report, &sysfs);
            assert_eq!(report.wrong, 0, "{:?}", report.lines);
            assert!(report.lines[0].contains(&format!("0000:00:05.0, identity={identity}")));
        }
        device(&sysfs, ("0x10de", "0x2331"), 16 << 20);
        let mut report = Report::default();
        check(&mut report, &sysfs);
        assert!(
            report.wrong == 1 && report.lines[0].contains("a real GPU"),
            "{:?}",
            report.lines
        );
        fs::remove_dir_all(sysfs).unwrap();
    }

    #[test]
    fn a_bus_without_the_device_says_what_to_start() {
        let mut report = Report::default();
        check(&mut report, Path::new("/nonexistent"));
        assert!(
            report.lines[0].contains("-device vgpu-stub,vm_id=N"),
            "{:?}",
            report.lines
        );
    }

    #[test]
    fn a_file_that_may_not_be_opened_names_the_udev_rule() {
        let sysfs = folder("rights");
        device(&sysfs, ("0x1234", "0x11e9"), BAR0_BYTES);
        let path = sysfs.join("0000:00:05.0/resource0");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        // root may open everything.
        if OpenOptions::new().read(true).open(&path).is_err() {
            let mut report = Report::default();
            check(&mut report, &sysfs);
            assert!(
                report.lines.iter().any(|line| line.contains(RULE)),
                "{:?}",
                report.lines
            );
        }
        fs::remove_dir_all(sysfs).unwrap();
    }

    #[test]
    fn lockdown_is_read() {
        let folder = folder("lockdown");
        let file = folder.join("lockdown");
        for (text, wrong) in [
            ("[none] integrity confidentiality", 0),
            ("none [integrity] confidentiality", 1),
        ] {
            fs::write(&file, text).unwrap();
            let mut report = Report::default();
            kernel(&mut report, &file);
            assert_eq!(report.wrong, wrong, "{text}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn groups_have_names() {
        assert_eq!(
            group_name(105, "root:x:0:\nrender:x:105:ollama\n"),
            "render"
        );
        assert_eq!(group_name(7, "root:x:0:\n"), "7");
    }

    #[test]
    fn containers_are_noticed() {
        let root = folder("container");
        let mut report = Report::default();
        container(&mut report, &root);
        assert!(report.lines.is_empty());
        fs::write(root.join(".dockerenv"), "").unwrap();
        container(&mut report, &root);
        assert_eq!(report.doubtful, 1);
        fs::remove_dir_all(root).unwrap();
    }
}
