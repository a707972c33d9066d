//! The cache: all that the commands download or build and keep, outside the checkout.

use std::fs::{self, File, TryLockError};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `$VGPU_CACHE`, else `$XDG_CACHE_HOME/vgpu-stub`, else `~/.cache/vgpu-stub`.
pub fn root() -> Result<PathBuf> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let root = if let Some(dir) = variable("VGPU_CACHE") {
        dir
    } else if let Some(dir) = variable("XDG_CACHE_HOME") {
        dir.join("vgpu-stub")
    } else if let Some(home) = variable("HOME") {
        home.join(".cache/vgpu-stub")
    } else {
        bail!("no place for the cache: set VGPU_CACHE to a directory");
    };
    std::path::absolute(&root).with_context(|| format!("cache directory {}", root.display()))
}

/// A directory of the cache, made when missing.
pub fn dir(name: &str) -> Result<PathBuf> {
    let path = root()?.join(name);
    fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
    Ok(path)
}

/// Held while a command works on a part of the cache; other commands wait.
pub struct Lock(#[allow(dead_code)] File);

/// Takes the lock `name`; says so when it has to wait for another command.
pub fn lock(name: &str) -> Result<Lock> {
    let path = dir("locks")?.join(name);
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another command that works on {name} ...");
            file.lock()
                .with_context(|| format!("lock {}", path.display()))?;
        }
        Err(TryLockError::Error(e)) => {
            return Err(e).with_context(|| format!("lock {}", path.display()));
        }
    }
    Ok(Lock(file))
}

/// A short name of some content, equal for equal content.
pub fn hash(content: &(impl Hash + ?Sized)) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Remembers from which inputs something was made.
pub struct Stamp {
    path: PathBuf,
    inputs: String,
}

impl Stamp {
    /// The stamp in file `path`, for these inputs.
    pub fn new(path: impl Into<PathBuf>, inputs: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            inputs: inputs.into(),
        }
    }

    /// Whether the last `set` was for the same inputs.
    pub fn is_set(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.inputs)
    }

    /// Forgets: call it before work that may stop half-way.
    pub fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The thing is now made from these inputs.
    pub fn set(&self) -> Result<()> {
        write_if_changed(&self.path, self.inputs.as_bytes()).map(|_| ())
    }
}

/// Writes the file unless it has this content already; says whether it wrote.
pub fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_knows_its_inputs() {
        let dir = std::env::temp_dir().join(format!("vgpu-stamp-{}", std::process::id()));
        let stamp = |inputs: &str| Stamp::new(dir.join("stamp"), inputs);
        assert!(!stamp("a").is_set());
        stamp("a").set().unwrap();
        assert!(stamp("a").is_set());
        assert!(!stamp("b").is_set());
        stamp("b").set().unwrap();
        assert!(!stamp("a").is_set());
        stamp("b").clear().unwrap();
        assert!(!stamp("b").is_set());
        stamp("b").clear().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn unchanged_content_is_not_written_again() {
        let path = std::env::temp_dir().join(format!("vgpu-write-{}", std::process::id()));
        assert!(write_if_changed(&path, b"one").unwrap());
        assert!(!write_if_changed(&path, b"one").unwrap());
        assert!(write_if_changed(&path, b"two").unwrap());
        fs::remove_file(path).unwrap();
    }
}
