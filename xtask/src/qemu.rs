//! `cargo xtask qemu`: QEMU with the device in it.
//!
//! | step | does |
//! |---|---|
//! | `source` | gets a QEMU source tree into the cache |
//! | `patch` | adds `meson-snippets/` to a tree |
//! | `build` | configures, compiles, and collects firmware |

mod build;
mod patch;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{cache, progress};

pub use build::Installed;
use source::Origin;

/// Gets, patches and builds QEMU
///
/// The source is QEMU_SRC=DIR (a tree of yours, which is copied), QEMU_URL=… with
/// QEMU_SHA256=… (a tarball), or Debian's source pool through the apt configuration of this
/// machine.
#[derive(Args)]
pub struct Qemu {
    #[command(subcommand)]
    action: Action,

    /// Series to take from Debian's pool: 10.0, 10.2, …
    /// [default: $VGPU_QEMU_SERIES, else 10.0]
    #[arg(long, global = true, value_name = "X.Y")]
    qemu_series: Option<String>,
}

#[derive(Subcommand)]
enum Action {
    /// Gets the source tree into the cache, and prints its path
    Fetch,
    /// Adds the device to the tree in the cache, or to yours
    Patch {
        /// A QEMU source tree that is changed in place
        #[arg(long, value_name = "DIR")]
        tree: Option<PathBuf>,
    },
    /// Does all that is needed for a qemu-system-x86_64 with the device, and prints its path
    Build {
        /// Builds plain QEMU, without --enable-vgpu-stub, in a directory of its own
        #[arg(long)]
        plain: bool,
    },
    /// Installs the last build below a directory, as a package would, and prints its program's path there
    Install {
        /// The directory, in place of the root
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Prints the path of the last build, and builds nothing
    Path,
}

impl Qemu {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        let origin = origin(self.qemu_series)?;
        match self.action {
            Action::Fetch => {
                let _lock = cache::lock("qemu")?;
                println!("{}", source::fetch(&origin)?.dir.display());
            }
            Action::Patch { tree: Some(tree) } => patch::apply(&tree)?.report(&tree),
            Action::Patch { tree: None } => {
                let _lock = cache::lock("qemu")?;
                let tree = source::fetch(&origin)?;
                patch::apply(&tree.dir)?.report(&tree.dir);
            }
            Action::Build { plain } => {
                let device = if plain {
                    build::Device::Without
                } else {
                    build::Device::With
                };
                println!("{}", build::build(&origin, device)?.binary.display());
            }
            Action::Install { to } => {
                let to = std::path::absolute(&to)?;
                println!("{}", build::install(&origin, &to)?.display());
            }
            Action::Path => println!("{}", build::last(&origin)?.binary.display()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// QEMU with the device, of the origin that the environment names; built when it is not there
/// or older than its sources.
pub fn installed() -> Result<Installed> {
    build::build(&origin(None)?, build::Device::With)
}

/// QEMU with the device as the last build left it.
pub fn last() -> Result<Installed> {
    build::last(&origin(None)?)
}

/// Installs the last build below a directory, and gives its program there.
pub fn install(to: &Path) -> Result<PathBuf> {
    build::install(&origin(None)?, to)
}

/// Where the sources come from: the option, the environment, or the default.
fn origin(series: Option<String>) -> Result<Origin> {
    let series = series
        .or_else(|| {
            std::env::var(source::SERIES_VARIABLE)
                .ok()
                .filter(|value| !value.is_empty())
        })
        .unwrap_or_else(|| source::DEFAULT_SERIES.to_owned());
    Origin::from_environment(&series)
}

/// Starts a step that names QEMU.
fn step(what: &str) -> progress::Step {
    progress::step(&format!("QEMU: {what}"))
}
