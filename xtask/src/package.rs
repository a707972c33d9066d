//! `cargo xtask package`: what is installed in a guest, as a Debian package and as an archive with a script.

mod deb;
mod provides;
mod version;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::interrupt::Directory;
use crate::{apt, cache, glibc, progress, run, shims, workspace};
use version::Version;

/// The package's name.
pub const NAME: &str = "vgpu-stub-guest";

/// Programs of the stage that the package brings; the others belong to the tests.
const PROGRAMS: &[&str] = &["nvidia-smi", "vgpu-ctl", "vgpu-doctor"];

/// Links that the linker follows for `-lcuda` and `-lnvidia-ml`. NVIDIA's driver brings these two; the links
/// of the toolkit's libraries belong to the toolkit.
const DEV_LINKS: &[(&str, &str)] = &[
    ("libcuda.so", "libcuda.so.1"),
    ("libnvidia-ml.so", "libnvidia-ml.so.1"),
];

/// Files that go in as they are in `guest-shim/packaging`: name and mode.
const SCRIPTS: &[(&str, u32)] = &[("install.sh", 0o755), ("uninstall.sh", 0o755)];
pub(crate) const UDEV_RULE: &str = "60-vgpu-stub.rules";

/// Makes the guest's package: a .deb, and an archive with an install script for other distributions
///
/// Prints their paths. Equal sources give equal files: the date is that of SOURCE_DATE_EPOCH, else that of
/// the last commit.
#[derive(Args)]
pub struct Package {
    /// Where they are put [default: target/package]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

impl Package {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let made = match &self.output {
            Some(directory) => make(directory)?,
            None => make_default()?,
        };
        println!("{}\n{}", made.deb.display(), made.archive.display());
        Ok(ExitCode::SUCCESS)
    }
}

/// What was made.
pub struct Made {
    /// The Debian package.
    pub deb: PathBuf,
    /// The archive.
    pub archive: PathBuf,
    /// Equal for equal content, whatever the version.
    pub content: String,
}

/// Makes both where the next commands look for them.
pub fn make_default() -> Result<Made> {
    make(&workspace::target()?.join("package"))
}

/// Makes both in a directory. Older ones of the same name are removed from it.
pub fn make(output: &Path) -> Result<Made> {
    apt::ensure(&["binutils", "dpkg", "xz-utils"])?;
    let version = Version::of_sources()?;
    let stage = shims::stage()?;
    fs::create_dir_all(output).with_context(|| format!("make {}", output.display()))?;
    let step = progress::step("guest package");
    let work = Directory::new("vgpu-package")?;
    let contents = Contents::collect(&stage, &work.path().join(NAME))?;
    for old in fs::read_dir(output)?.flatten() {
        if old.file_name().to_string_lossy().starts_with(NAME) {
            fs::remove_file(old.path())
                .with_context(|| format!("remove {}", old.path().display()))?;
        }
    }
    let deb = deb::make(&contents, &version, &work.path().join("deb"), output)?;
    let archive = contents.archive(&version, output)?;
    step.done(&version.text);
    Ok(Made {
        deb,
        archive,
        content: contents.hash()?,
    })
}

/// The files, laid out as in the archive: `lib`, `bin`, the scripts.
struct Contents {
    root: PathBuf,
    libraries: Vec<&'static str>,
    programs: Vec<&'static str>,
    links: Vec<(&'static str, &'static str)>,
    /// The newest glibc that one of them needs.
    glibc: (u32, u32),
}

impl Contents {
    fn collect(stage: &Path, root: &Path) -> Result<Self> {
        let libraries: Vec<_> = shims::sonames().collect();
        let links = DEV_LINKS
            .iter()
            .copied()
            .filter(|(_, target)| libraries.contains(target))
            .collect();
        let contents = Self {
            root: root.to_owned(),
            libraries,
            programs: PROGRAMS.to_vec(),
            links,
            glibc: (2, 0),
        };
        contents.fill(stage)
    }

    fn fill(mut self, stage: &Path) -> Result<Self> {
        for (folder, names, mode) in [
            ("lib", &self.libraries, 0o644),
            ("bin", &self.programs, 0o755),
        ] {
            for name in names {
                let (from, to) = (
                    stage.join(folder).join(name),
                    self.root.join(folder).join(name),
                );
                put(&from, &to, mode)?;
                run::ok(
                    Command::new("strip")
                        .args(["--strip-unneeded", "--remove-section=.comment"])
                        .arg(&to),
                )?;
                self.glibc = self.glibc.max(glibc::needed(&to)?.unwrap_or_default());
            }
        }
        for (link, target) in &self.links {
            std::os::unix::fs::symlink(target, self.root.join("lib").join(link))?;
        }
        let own = workspace::root().join("guest-shim/packaging");
        for (name, mode) in SCRIPTS.iter().chain([&(UDEV_RULE, 0o644)]) {
            put(&own.join(name), &self.root.join(name), *mode)?;
        }
        put(
            &workspace::root().join("LICENSE-MIT"),
            &self.root.join("LICENSE"),
            0o644,
        )?;
        Ok(self)
    }

    /// The archive: its owners, dates and order are fixed.
    fn archive(&self, version: &Version, output: &Path) -> Result<PathBuf> {
        let top = format!("{NAME}-{}", version.text);
        let path = output.join(format!("{top}-x86_64.tar.xz"));
        let parent = self.root.parent().context("the folder has a parent")?;
        let mut tar = Command::new("tar");
        tar.env("XZ_OPT", "-6 --threads=1")
            .arg("--create")
            .arg("--xz")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--format=gnu",
            ])
            .arg(format!("--mtime=@{}", version.epoch))
            .arg(format!("--transform=s,^{NAME},{top},"))
            .arg("--file")
            .arg(&path)
            .arg("--directory")
            .arg(parent)
            .arg(NAME);
        run::ok(&mut tar)?;
        Ok(path)
    }

    fn hash(&self) -> Result<String> {
        let mut all = Vec::new();
        for (folder, names) in [("lib", &self.libraries), ("bin", &self.programs)] {
            for name in names {
                all.push((*name, fs::read(self.root.join(folder).join(name))?));
            }
        }
        let own = workspace::root().join("guest-shim/packaging");
        for name in [UDEV_RULE].into_iter().chain(deb::SCRIPTS.iter().copied()) {
            all.push((name, fs::read(own.join(name))?));
        }
        let provides = provides::provides(&self.libraries, &self.programs);
        Ok(cache::hash(&(all, provides)))
    }
}

/// Copies a file and gives it exactly this mode.
fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::copy(from, to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Writes a file with exactly this mode.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Checks the files of the stage and both results; `cargo xtask test` runs it. Gives how many checks passed.
pub fn check() -> Result<u64> {
    let stage = shims::stage()?;
    for folder in ["lib", "bin"] {
        for entry in fs::read_dir(stage.join(folder))? {
            let path = entry?.path();
            // Tests put programs beside ours that this machine's compiler made.
            let ours = path.file_name().is_some_and(shims::is_program);
            if folder == "bin" && !ours {
                continue;
            }
            let needed = glibc::needed(&path)?.unwrap_or_default();
            let allowed = crate::sysroot::GLIBC;
            ensure!(
                needed <= allowed,
                "{} needs glibc {}.{}; guests have {}.{}",
                path.display(),
                needed.0,
                needed.1,
                allowed.0,
                allowed.1
            );
        }
    }
    let (one, two) = (
        Directory::new("vgpu-package-a")?,
        Directory::new("vgpu-package-b")?,
    );
    let (first, second) = (make(one.path())?, make(two.path())?);
    for (a, b) in [(&first.deb, &second.deb), (&first.archive, &second.archive)] {
        ensure!(
            fs::read(a)? == fs::read(b)?,
            "{}: two runs made different files",
            a.display()
        );
    }
    let script = workspace::root().join("guest-shim/packaging/test.sh");
    run::ok(
        Command::new("sh")
            .arg(script)
            .args([&first.deb, &first.archive]),
    )?;
    Ok(3)
}
