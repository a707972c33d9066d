//! For which of Debian's package names our libraries stand.

/// The driver whose CUDA version the software device reports: NVIDIA's release notes of CUDA 13.0 pair it with
/// driver 580.65.06. Packages ask for a least version of the driver's libraries.
const DRIVER: &str = "580.65.06";

/// Packages of the driver that are found by the soname, too.
const OF_DRIVER: &[&str] = &["libcuda.so.1", "libnvidia-ml.so.1"];

/// Newest release of each toolkit library with this package name.
const TOOLKIT: &[(&str, &str)] = &[
    ("libcudart11.0", "11.8.89"),
    ("libcudart12", "12.9.79"),
    ("libcudart13", "13.0.96"),
    ("libcublas11", "11.11.3.6"),
    ("libcublas12", "12.9.1.4"),
    ("libcublas13", "13.0.2.14"),
    ("libcublaslt11", "11.11.3.6"),
    ("libcublaslt12", "12.9.1.4"),
    ("libcublaslt13", "13.0.2.14"),
];

/// CUDA versions of `libcuda-<version>-1`, which Debian's driver package provides for each version that it runs.
const RUNS: &[&str] = &[
    "5.0", "5.5", "6.0", "6.5", "7.0", "7.5", "8.0", "9.0", "9.1", "9.2", "10.0", "10.1", "10.2",
    "11.0", "11.1", "11.2", "11.3", "11.4", "11.5", "11.6", "11.7", "11.8", "12.0", "12.1", "12.2",
    "12.3", "12.4", "12.5", "12.6", "12.8", "12.9", "13.0",
];

/// The name of a library's package (Debian policy 8.1): `libcublasLt.so.12` is in `libcublaslt12`.
fn package(soname: &str) -> Option<String> {
    let (name, version) = soname.split_once(".so.")?;
    let hyphen = if name.ends_with(|c: char| c.is_ascii_digit()) {
        "-"
    } else {
        ""
    };
    Some(format!("{name}{hyphen}{version}").to_lowercase())
}

/// The field `Provides:` for these libraries and programs.
pub fn provides(sonames: &[&str], programs: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for soname in sonames {
        let Some(package) = package(soname) else {
            continue;
        };
        let release = TOOLKIT.iter().find(|(name, _)| *name == package);
        if OF_DRIVER.contains(soname) {
            all.push(format!("{package} (= {DRIVER})"));
            all.push(format!("{soname} (= {DRIVER})"));
        } else if let Some((_, release)) = release {
            all.push(format!("{package} (= {release})"));
        } else {
            all.push(package);
        }
        if *soname == "libcuda.so.1" {
            all.push("libcuda1-any".to_owned());
            all.extend(RUNS.iter().map(|cuda| format!("libcuda-{cuda}-1")));
        }
    }
    if programs.contains(&"nvidia-smi") {
        all.push(format!("nvidia-smi (= {DRIVER})"));
    }
    all
}

/// The fields `Conflicts:` and `Replaces:`: whoever else has these files.
pub fn conflicts(provides: &[String]) -> Vec<String> {
    provides
        .iter()
        .filter_map(|entry| entry.split(' ').next())
        .filter(|name| !name.starts_with("libcuda-"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_stand_for_debians_packages() {
        let all = provides(
            &[
                "libcuda.so.1",
                "libcudart.so.11.0",
                "libcublasLt.so.12",
                "libnvidia-ml.so.1",
            ],
            &["vgpu-ctl", "nvidia-smi"],
        );
        for wanted in [
            "libcuda1 (= 580.65.06)",
            "libcuda.so.1 (= 580.65.06)",
            "libcuda-12.4-1",
            "libcudart11.0 (= 11.8.89)",
            "libcublaslt12 (= 12.9.1.4)",
            "libnvidia-ml1 (= 580.65.06)",
            "nvidia-smi (= 580.65.06)",
        ] {
            assert!(all.iter().any(|entry| entry == wanted), "{wanted}: {all:?}");
        }
        // A library that is not there is not promised.
        assert!(!all.iter().any(|entry| entry.starts_with("libcublas12")));
        let conflicts = conflicts(&all);
        assert!(conflicts.contains(&"libcuda1".to_owned()));
        assert!(!conflicts.iter().any(|name| name == "libcuda-12.4-1"));
    }
}
