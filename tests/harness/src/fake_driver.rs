//! Copies of the fake driver (`tests/fake-cuda`): each is a driver of its own. The test program's package has
//! `vgpu-fake-cuda` as a development dependency, so that cargo builds the library beside the test.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The library as cargo has built it.
fn built_library() -> Vec<u8> {
    let exe = std::env::current_exe().expect("a test has a path");
    let built = exe
        .parent()
        .expect("in a folder")
        .join("libvgpu_fake_cuda.so");
    let library = fs::read(&built).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: cargo builds it as a dependency of these tests (tests/fake-cuda)",
            built.display()
        )
    });
    loaded_part(library)
}

/// Leaves out what is not loaded, debug information above all: each test writes a copy.
fn loaded_part(mut elf: Vec<u8>) -> Vec<u8> {
    let number = |at: usize, bytes: usize| {
        (0..bytes)
            .rev()
            .fold(0usize, |n, i| n << 8 | usize::from(elf[at + i]))
    };
    // ELF-64: e_phoff, e_phentsize, e_phnum; p_offset and p_filesz of each program header.
    let (table, bytes, count) = (number(32, 8), number(54, 2), number(56, 2));
    let ends = (0..count)
        .map(|i| table + i * bytes)
        .map(|header| number(header + 8, 8) + number(header + 32, 8));
    let end = ends.max().expect("a library has segments");
    elf.truncate(end);
    // e_shoff, and e_shnum with e_shstrndx.
    elf[40..48].fill(0);
    elf[60..64].fill(0);
    elf
}

/// Overwrites an exported name, so that the dynamic linker does not find it.
fn take_out(library: &mut [u8], name: &str) {
    let wanted = [&[0], name.as_bytes(), &[0]].concat();
    let found: Vec<usize> = library
        .windows(wanted.len())
        .enumerate()
        .filter(|(_, w)| *w == wanted)
        .map(|(i, _)| i)
        .collect();
    assert!(!found.is_empty(), "{name} is not in the library");
    found.iter().for_each(|at| library[at + 1] = b'X');
}

/// A copy of the fake library: a driver that no other test uses.
pub struct FakeDriver {
    dir: PathBuf,
    /// Its file.
    pub library: PathBuf,
}

impl FakeDriver {
    /// A driver with this configuration; see `tests/fake-cuda/src/lib.rs`.
    pub fn new(conf: &str) -> FakeDriver {
        FakeDriver::without(&[], conf)
    }

    /// A driver without these functions: their names are overwritten in the file.
    pub fn without(names: &[&str], conf: &str) -> FakeDriver {
        static DRIVER: OnceLock<Vec<u8>> = OnceLock::new();
        let mut bytes: &[u8] = DRIVER.get_or_init(|| {
            let mut bytes = built_library();
            take_out(&mut bytes, "vgpu_stub_shim");
            bytes
        });
        let mut changed;
        if !names.is_empty() {
            changed = bytes.to_vec();
            names.iter().for_each(|name| take_out(&mut changed, name));
            bytes = &changed;
        }
        FakeDriver::from_bytes(bytes, conf)
    }

    /// The library with the mark of this project's own library for guests.
    pub fn with_shim_mark() -> FakeDriver {
        FakeDriver::from_bytes(&built_library(), "")
    }

    fn from_bytes(bytes: &[u8], conf: &str) -> FakeDriver {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("vgpu-fake-cuda-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).expect("a temporary folder");
        let library = dir.join("libcuda.so.1");
        fs::write(&library, bytes).expect("a copy of the library");
        let driver = FakeDriver { dir, library };
        driver.configure(conf);
        driver
    }

    /// Whether the library has a function of this name.
    pub fn exports(&self, name: &str) -> bool {
        let wanted = [&[0], name.as_bytes(), &[0]].concat();
        let library = fs::read(&self.library).expect("the copy");
        library.windows(wanted.len()).any(|w| w == wanted)
    }

    /// Another configuration from now on.
    pub fn configure(&self, conf: &str) {
        fs::write(self.dir.join("libcuda.so.conf"), conf).expect("the configuration");
    }

    /// The calls so far, without queries.
    pub fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.dir.join("libcuda.so.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Length of the log, in bytes.
    pub fn logged(&self) -> u64 {
        fs::metadata(self.dir.join("libcuda.so.log")).map_or(0, |data| data.len())
    }

    /// The calls since the log had this length.
    pub fn calls_since(&self, bytes: u64) -> Vec<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut text = String::new();
        // There is no log before the first call.
        if let Ok(mut log) = fs::File::open(self.dir.join("libcuda.so.log")) {
            log.seek(SeekFrom::Start(bytes))
                .expect("a place in the log");
            log.read_to_string(&mut text).expect("the log");
        }
        text.lines().map(str::to_owned).collect()
    }

    /// How often a call succeeded.
    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|line| *line == call).count()
    }

    /// As [`count`](FakeDriver::count), with the calls that failed.
    pub fn count_with_failures(&self, call: &str) -> usize {
        self.calls()
            .iter()
            .filter(|line| line.split(' ').next() == Some(call))
            .count()
    }

    /// What is left after the last call that destroyed something.
    pub fn live(&self) -> String {
        let last = |calls: &[String]| {
            let mut lines = calls.iter();
            lines.rfind(|line| line.starts_with("live")).cloned()
        };
        // Most often it is near the end of a log that may be long; the first line there may be half a one.
        let near = self.calls_since(self.logged().saturating_sub(1 << 14));
        last(near.get(1..).unwrap_or_default())
            .or_else(|| last(&self.calls()))
            .unwrap_or_default()
    }

    /// Nothing is left of what was created.
    pub fn assert_all_freed(&self) {
        assert_eq!(
            self.live(),
            "live contexts=0 streams=0 events=0 modules=0 memory=0 pins=0 graphs=0"
        );
    }
}

impl Drop for FakeDriver {
    fn drop(&mut self) {
        // The library stays mapped; a folder that cannot be removed is in the way of nothing.
        let _ = fs::remove_dir_all(&self.dir);
    }
}
