//! The libraries that programs find: which files, and whose.
#![allow(unsafe_code)] // The dynamic linker's functions.

use std::ffi::{CStr, CString, c_void};
use std::fs;
use std::path::{Path, PathBuf};

use crate::report::Report;

/// Libraries that nearly every CUDA program needs, and others.
const NEEDED: &[&str] = &["libcuda.so.1", "libnvidia-ml.so.1"];
const OTHERS: &[&str] = &[
    "libcudart.so.11.0",
    "libcudart.so.12",
    "libcudart.so.13",
    "libcublas.so.11",
    "libcublas.so.12",
    "libcublas.so.13",
    "libcublasLt.so.11",
    "libcublasLt.so.12",
    "libcublasLt.so.13",
];

/// Words of which each of our files has one, and none of NVIDIA's: the variable that all read, the name by which
/// they find each other, the folder of their sources in messages.
const MARKS: [&[u8]; 3] = [b"VGPU_LOG", b"vgpu_stub_shim", b"guest-shim/"];

/// A loaded library.
pub struct Library(*mut c_void);

impl Library {
    /// Loads it as a program does; the error is the dynamic linker's.
    pub fn open(name: &str) -> Result<Library, String> {
        let name = CString::new(name).map_err(|_| "a NUL in the name".to_owned())?;
        // SAFETY: a NUL-terminated name; its initialisers are those that any program would run.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
        if !handle.is_null() {
            return Ok(Library(handle));
        }
        // SAFETY: takes nothing.
        let text = unsafe { libc::dlerror() };
        if text.is_null() {
            return Err("no reason was given".to_owned());
        }
        // SAFETY: the dynamic linker's text, valid until its next call in this thread.
        Err(unsafe { CStr::from_ptr(text) }
            .to_string_lossy()
            .into_owned())
    }

    /// An address in it.
    pub fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: a loaded library and a NUL-terminated name.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!at.is_null()).then_some(at)
    }

    /// Its file.
    fn path(&self) -> Option<PathBuf> {
        /// The beginning of glibc's `struct link_map`.
        #[repr(C)]
        struct LinkMap {
            address: usize,
            name: *const libc::c_char,
        }
        let mut map: *mut LinkMap = std::ptr::null_mut();
        // SAFETY: a loaded library, and a place for the pointer that RTLD_DI_LINKMAP stores.
        let result = unsafe { libc::dlinfo(self.0, libc::RTLD_DI_LINKMAP, (&raw mut map).cast()) };
        if result != 0 || map.is_null() {
            return None;
        }
        // SAFETY: the entry of a loaded library, with a NUL-terminated name.
        let name = unsafe { CStr::from_ptr((*map).name) };
        fs::canonicalize(name.to_string_lossy().as_ref()).ok()
    }
}

/// Whether the file is of vgpu-stub.
fn is_ours(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    let has = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    MARKS.into_iter().any(has)
}

/// Looks at each.
pub fn check(report: &mut Report) {
    let mut missing = Vec::new();
    for (name, needed) in NEEDED
        .iter()
        .map(|name| (name, true))
        .chain(OTHERS.iter().map(|name| (name, false)))
    {
        let path = Library::open(name).map(|library| library.path());
        match path {
            Ok(Some(path)) if is_ours(&path) => {
                report.good("library", format_args!("{name} is {}", path.display()));
            }
            Ok(Some(path)) => {
                let text = format!(
                    "{name} is {}, which is not vgpu-stub's: remove it, or take its folder out of LD_LIBRARY_PATH and /etc/ld.so.conf.d",
                    path.display()
                );
                if needed { report.wrong("library", text) } else { report.doubtful("library", text) }
            }
            Ok(None) => report.doubtful("library", format_args!("{name} is found, but not its file")),
            Err(reason) if needed => report.wrong(
                "library",
                format_args!("{name} cannot be loaded: {reason}. Install the package vgpu-stub-guest, or run ldconfig"),
            ),
            // Nothing is wrong as long as no program wants it.
            Err(_) => missing.push(*name),
        }
    }
    if !missing.is_empty() {
        let names = missing.join(", ");
        report.doubtful(
            "library",
            format_args!("not found, which only matters to programs that need them: {names}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_with_their_files() {
        let library = Library::open("libc.so.6").expect("every process has it");
        assert!(library.symbol(c"malloc").is_some());
        assert!(library.symbol(c"no such function").is_none());
        let path = library.path().expect("it has a file");
        assert!(path.is_file() && !is_ours(&path), "{}", path.display());
        let error = Library::open("libdoes-not-exist.so.9")
            .err()
            .expect("is not there");
        assert!(error.contains("libdoes-not-exist.so.9"), "{error}");
    }
}
