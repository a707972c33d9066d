//! The guest's kernel: Debian's generic kernel package, unpacked and never installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{apt, cache, progress, run};

/// The meta package whose dependency names the current kernel. The `cloud` flavour has no 9p.
const META_PACKAGE: &str = "linux-image-amd64";

/// Modules that the guest needs before it has a root: the bus, the streams, the file systems.
const BOOT_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
];

/// Names the package that is unpacked whole.
const STAMP: &str = "unpacked";

/// An unpacked kernel package.
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// The version that `uname -r` shows in the guest.
    pub release: String,
    modules: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// Gives the kernel in the cache; downloads and unpacks it first where there is none.
    pub fn fetch() -> Result<Self> {
        let dir = cache::dir("guest-kernel")?;
        if let Some(kernel) = Self::cached(&dir) {
            return Ok(kernel);
        }
        let _lock = cache::lock("guest-kernel")?;
        if let Some(kernel) = Self::cached(&dir) {
            return Ok(kernel);
        }
        let step = progress::step("guest kernel: download and unpack");
        apt::ensure(&["xz-utils"])?;
        let package = current_package(&dir)?;
        let tree = dir.join(&package);
        if tree.exists() {
            fs::remove_dir_all(&tree).with_context(|| format!("remove {}", tree.display()))?;
        }
        fs::create_dir_all(&tree)?;
        let deb = apt::download(&package, &dir)?;
        run::ok(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&tree))?;
        fs::remove_file(&deb)?;
        let kernel = Self::open(&tree)?;
        fs::write(dir.join(STAMP), &package)?;
        step.done(&format!("Linux {}", kernel.release));
        Ok(kernel)
    }

    fn cached(dir: &Path) -> Option<Self> {
        let tree = fs::read_to_string(dir.join(STAMP)).ok()?;
        Self::open(&dir.join(tree.trim())).ok()
    }

    fn open(tree: &Path) -> Result<Self> {
        let boot = tree.join("boot");
        let image = find(&boot, |name| name.starts_with("vmlinuz-"))?
            .with_context(|| format!("{} holds no vmlinuz", boot.display()))?;
        let release = image
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("vmlinuz-"))
            .context("the kernel's file name is not UTF-8")?
            .to_owned();
        // Debian's packages moved from /lib to /usr/lib.
        let root = ["lib/modules", "usr/lib/modules"]
            .iter()
            .map(|dir| tree.join(dir).join(&release).join("kernel"))
            .find(|dir| dir.is_dir())
            .with_context(|| format!("{} holds no modules", tree.display()))?;
        let mut modules = BTreeMap::new();
        index(&root, &mut modules)?;
        Ok(Self {
            image,
            release,
            modules,
        })
    }

    /// The modules of the initramfs, in the order in which they can be loaded.
    pub fn boot_modules(&self) -> Result<Vec<Module>> {
        self.with_dependencies(BOOT_MODULES)
    }

    /// `roots` and all that they need, each after what it needs.
    pub fn with_dependencies<S: AsRef<str>>(&self, roots: &[S]) -> Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for root in roots {
            self.visit(&normal(root.as_ref()), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.modules.get(name).with_context(|| {
            format!(
                "kernel module {name:?} is not in the guest's kernel {}",
                self.release
            )
        })?;
        let image = read_module(path)?;
        for needed in dependencies(&image) {
            self.visit(&needed, seen, order)?;
        }
        order.push(Module {
            name: name.to_owned(),
            image,
        });
        Ok(())
    }
}

/// One kernel module.
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The uncompressed ELF file.
    pub image: Vec<u8>,
}

/// The package that the meta package stands for today.
fn current_package(dir: &Path) -> Result<String> {
    let meta = apt::download(META_PACKAGE, dir)?;
    let text = run::stdout(Command::new("dpkg-deb").arg("-f").arg(&meta).arg("Depends"))?;
    fs::remove_file(&meta)?;
    text.split(',')
        .filter_map(|package| package.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| {
            format!(
                "{META_PACKAGE} depends on no linux-image package: {}",
                text.trim()
            )
        })
}

/// The kernel takes `-` and `_` in a module's name for the same.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn index(dir: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, modules)?;
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str())
            && let Some(stem) = name
                .strip_suffix(".ko")
                .or_else(|| name.strip_suffix(".ko.xz"))
        {
            modules.insert(normal(stem), path);
        }
    }
    Ok(())
}

fn find(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn read_module(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz")
            .arg("-dc")
            .arg(path)
            .output()
            .context("run xz")?;
        ensure!(
            output.status.success(),
            "xz cannot unpack {}",
            path.display()
        );
        return Ok(output.stdout);
    }
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The names in the `depends=` entry of a module's `.modinfo` section.
fn dependencies(image: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = image.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = image.get(at + KEY.len()..).unwrap_or_default();
    let end = value
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default())
        .split(',')
        .filter(|name| !name.is_empty())
        .map(normal)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_from_modinfo() {
        let image = b"\x7fELF..license=GPL\0depends=virtio,virtio-ring\0name=x\0";
        assert_eq!(dependencies(image), ["virtio", "virtio_ring"]);
        assert_eq!(dependencies(b"..license=GPL\0depends=\0"), [""; 0]);
        assert_eq!(dependencies(b"no modinfo"), [""; 0]);
    }

    #[test]
    fn modules_are_ordered_after_what_they_need() {
        let dir = std::env::temp_dir().join(format!("vgpu-kernel-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut modules = BTreeMap::new();
        for (name, needs) in [("a", "b,c"), ("b", "c"), ("c", "")] {
            let path = dir.join(format!("{name}.ko"));
            fs::write(&path, format!("x\0depends={needs}\0")).unwrap();
            modules.insert(name.to_owned(), path);
        }
        let kernel = Kernel {
            image: PathBuf::new(),
            release: "1".into(),
            modules,
        };
        let order = kernel.with_dependencies(&["a"]).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "a"]);
        let error = kernel.with_dependencies(&["zz"]).err().unwrap().to_string();
        assert!(error.contains("\"zz\""), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }
}
