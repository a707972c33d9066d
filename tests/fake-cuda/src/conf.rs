//! The file that tells the fake driver what to be.

use std::collections::HashMap;
use std::ffi::CStr;
use std::path::PathBuf;

#[derive(Debug, Default)]
pub struct Conf {
    pub version: Option<i32>,
    pub devices: Option<i32>,
    pub memory: Option<u64>,
    pub release: bool,
    pub sticky_process: bool,
    /// Queries are logged, too.
    pub queries: bool,
    /// What each call returns, where the GPU is gone.
    pub lost: Option<u32>,
    /// Number and result of a call that fails, counted from when this was first read.
    pub failing: Option<(u64, u32)>,
    pub attributes: HashMap<u32, i32>,
    /// Call, its number (`None`: each), result.
    pub fail: Vec<(String, Option<u64>, u32)>,
}

impl Conf {
    pub fn read(path: &PathBuf) -> Conf {
        let mut conf = Conf::default();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                ["version", n] => conf.version = n.parse().ok(),
                ["devices", n] => conf.devices = n.parse().ok(),
                ["memory", n] => conf.memory = n.parse().ok(),
                ["queries"] => conf.queries = true,
                ["release"] => conf.release = true,
                ["failing", n, status] => {
                    conf.failing = Some((number(n) as u64, number(status) as u32));
                }
                ["lost", status] => conf.lost = Some(number(status) as u32),
                ["sticky", "process"] => conf.sticky_process = true,
                ["attribute", n, value] => {
                    conf.attributes
                        .insert(number(n) as u32, number(value) as i32);
                }
                ["fail", call, n, status] => {
                    let nth = (n != "*").then(|| number(n) as u64);
                    conf.fail
                        .push((call.to_owned(), nth, number(status) as u32));
                }
                _ => crate::state::die(&format!("{}: unknown line: {line}", path.display())),
            }
        }
        conf
    }
}

fn number(text: &str) -> i64 {
    text.parse()
        .unwrap_or_else(|_| crate::state::die(&format!("no number: {text}")))
}

/// The file of this library.
pub fn own_path() -> PathBuf {
    // SAFETY: an all-zero Dl_info is a valid one.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here: fn() -> PathBuf = own_path;
    // SAFETY: an address in this library, and a struct to fill.
    let found = unsafe { libc::dladdr(here as *const libc::c_void, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        crate::state::die("dladdr does not know this library");
    }
    // SAFETY: the dynamic linker's string, which lives as long as the library.
    PathBuf::from(
        unsafe { CStr::from_ptr(info.dli_fname) }
            .to_string_lossy()
            .into_owned(),
    )
}
