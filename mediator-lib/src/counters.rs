//! Calls of a channel by name: how "it really ran on the device" is shown.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use vgpu_protocol::calls::{CALLS, Opcode};

/// One counter per row of the call table.
#[derive(Debug)]
pub struct Counters {
    calls: Box<[AtomicU64]>,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            calls: CALLS.iter().map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Counters {
    /// Counts one call.
    pub fn count(&self, opcode: Opcode) {
        if let Some(counter) = self.calls.get(opcode.row()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
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
        let mut out = String::from("{");
        for (i, (name, count)) in self.snapshot().into_iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}\"{name}\":{count}", if i > 0 { "," } else { "" });
        }
        out.push('}');
        out
    }
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
}
