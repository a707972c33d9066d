//! What a channel did: calls by name, launches by kernel, calls that the guest waited for, bytes
//! copied. It is how "it really ran on the device" is shown.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vgpu_protocol::calls::{CALLS, Opcode};
use vgpu_protocol::limits::MAX_COUNTED_KERNELS;

/// Name under which launches are counted once there are [`MAX_COUNTED_KERNELS`] names.
const OTHER_KERNELS: &str = "(other kernels)";

/// Longest part of a kernel's name that is shown, in bytes.
const SHOWN_NAME_BYTES: usize = 256;

/// Where copied bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// From host memory to device memory.
    ToDevice,
    /// From device memory to host memory.
    ToHost,
    /// Within device memory.
    Within,
}

impl Moved {
    /// The way of a copy between memory of the host and of the device.
    pub fn between(dst_on_host: bool, src_on_host: bool) -> Moved {
        match (dst_on_host, src_on_host) {
            (true, false) => Moved::ToHost,
            (false, true) => Moved::ToDevice,
            _ => Moved::Within,
        }
    }
}

/// Adds to what one thread at a time adds to, and any may read: a locked addition takes as long as much of a small launch.
fn add(count: &AtomicU64, more: u64) {
    let sum = count.load(Ordering::Relaxed).wrapping_add(more);
    count.store(sum, Ordering::Relaxed);
}

/// What is counted of one kernel. Its launches are counted by the session's worker or by the thread that does the
/// session's work, which take turns.
#[derive(Debug, Default)]
pub struct KernelCount {
    launches: AtomicU64,
    nanoseconds: AtomicU64,
}

impl KernelCount {
    /// Counts one launch.
    pub fn launched(&self) {
        add(&self.launches, 1);
    }

    /// Adds the time that a launch took on the host's processors, by the clock.
    pub fn ran(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, nanoseconds);
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Counters {
    calls: Box<[AtomicU64]>,
    waited: AtomicU64,
    moved: [AtomicU64; 3],
    staged: AtomicU64,
    kernels: Mutex<BTreeMap<String, Arc<KernelCount>>>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            calls: CALLS.iter().map(|_| AtomicU64::new(0)).collect(),
            waited: AtomicU64::new(0),
            moved: Default::default(),
            staged: AtomicU64::new(0),
            kernels: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts one call.
    pub fn count(&self, opcode: Opcode) {
        if let Some(counter) = self.calls.get(opcode.row()) {
            add(counter, 1);
        }
    }

    /// Counts a call whose reply the guest waits for.
    pub fn waited(&self) {
        add(&self.waited, 1);
    }

    /// Counts copied bytes.
    pub fn moved(&self, moved: Moved, bytes: u64) {
        self.moved[moved as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that went through a record or the staging arena, of those that were copied.
    pub fn staged(&self, bytes: u64) {
        self.staged.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes to the device, to the host, within the device, and staged.
    pub fn bytes(&self) -> [u64; 4] {
        let [to_device, to_host, within] = &self.moved;
        [to_device, to_host, within, &self.staged].map(|n| n.load(Ordering::Relaxed))
    }

    /// The counter of a kernel. It is looked up once for each kernel, so that a launch only adds to
    /// it.
    pub fn kernel(&self, name: &str) -> Arc<KernelCount> {
        let name = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES)];
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let full = kernels.len() >= MAX_COUNTED_KERNELS;
        let name = if full && !kernels.contains_key(name) {
            OTHER_KERNELS
        } else {
            name
        };
        Arc::clone(kernels.entry(name.to_owned()).or_default())
    }

    /// Names and counts of the calls that were made, in the order of the call table.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let counts = self.calls.iter().map(|c| c.load(Ordering::Relaxed));
        CALLS
            .iter()
            .map(|c| c.name)
            .zip(counts)
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    /// The snapshot as a JSON object.
    pub fn json(&self) -> String {
        object(self.snapshot())
    }

    /// Members of a JSON object, without its braces: `calls`, `waited`, `bytes`, `kernels` (launches),
    /// and `microseconds` of the kernels that the host's processors ran.
    pub fn members(&self) -> String {
        let bytes = ["to_device", "to_host", "within", "staged"].into_iter();
        let kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |number: fn(&KernelCount) -> u64| {
            let all = kernels
                .iter()
                .map(move |(name, k)| (name.as_str(), number(k)));
            object(all.filter(|(_, n)| *n > 0))
        };
        format!(
            r#""calls":{},"waited":{},"bytes":{},"kernels":{},"microseconds":{}"#,
            self.json(),
            self.waited.load(Ordering::Relaxed),
            object(bytes.zip(self.bytes())),
            of(|k| k.launches.load(Ordering::Relaxed)),
            of(|k| k.nanoseconds.load(Ordering::Relaxed) / 1000)
        )
    }
}

/// Appends a line to the counters file.
pub fn record(path: &Path, line: &str) {
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        // One write per line: two VMs may share the file.
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "cannot write the counters file");
    }
}

/// A JSON object of counts.
fn object<'a>(counts: impl IntoIterator<Item = (&'a str, u64)>) -> String {
    let mut out = String::from("{");
    for (name, count) in counts {
        if out.len() > 1 {
            out.push(',');
        }
        out.push('"');
        for c in name.chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => out.push('?'),
                c => out.push(c),
            }
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "\":{count}");
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_names_only_the_calls_made() {
        let counters = Counters::default();
        counters.count(Opcode::cuMemAlloc);
        counters.count(Opcode::cuInit);
        counters.count(Opcode::cuMemAlloc);
        assert_eq!(counters.json(), r#"{"cuInit":1,"cuMemAlloc":2}"#);
    }

    #[test]
    fn launches_bytes_and_waits_are_members() {
        let counters = Counters::default();
        counters.waited();
        counters.moved(Moved::ToHost, 5);
        counters.kernel("never");
        for _ in 0..3 {
            counters.kernel("a\"b").launched();
            counters.kernel("a\"b").ran(Duration::from_nanos(1900));
        }
        counters.kernel("c").launched();
        assert_eq!(
            counters.members(),
            r#""calls":{},"waited":1,"bytes":{"to_device":0,"to_host":5,"within":0,"staged":0},"kernels":{"a\"b":3,"c":1},"microseconds":{"a\"b":5}"#
        );
    }

    #[test]
    fn names_of_kernels_are_bounded() {
        let counters = Counters::default();
        for n in 0..MAX_COUNTED_KERNELS {
            counters.kernel(&n.to_string()).launched();
        }
        assert!(!counters.members().contains(OTHER_KERNELS));
        counters.kernel("one more").launched();
        counters.kernel("0").launched();
        let members = counters.members();
        assert!(members.contains(r#""(other kernels)":1"#) && members.contains(r#""0":2,"#));
    }
}
