//! The VM's processes that use the device: one for each session, by what it says of itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use vgpu_protocol::calls::NvmlProcess;

use crate::budget::Budget;
use crate::ledger::Ledger;

/// The sessions of a device.
#[derive(Debug, Default)]
pub struct Processes {
    here: Mutex<Vec<Weak<Process>>>,
    /// Where the sessions are in processes of their own.
    ledger: Option<Ledger>,
}

/// A session's entry; gone with the session.
#[derive(Debug)]
pub struct Process {
    /// Name and number, once the client has said them.
    named: Mutex<Option<(String, u32)>>,
    budget: Arc<Budget>,
    /// Where others see it, and the channel.
    entry: Option<(Ledger, u32)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processes {
    /// None yet; those of other processes are in the ledger.
    pub fn new(ledger: Option<Ledger>) -> Processes {
        Processes {
            here: Mutex::default(),
            ledger,
        }
    }

    /// Adds a channel's session with its part of the VM's memory.
    pub fn add(&self, channel: u32, budget: Arc<Budget>) -> Arc<Process> {
        let process = Arc::new(Process {
            named: Mutex::new(None),
            budget,
            entry: self.ledger.map(|ledger| (ledger, channel)),
        });
        let mut all = lock(&self.here);
        all.retain(|old| old.strong_count() > 0);
        all.push(Arc::downgrade(&process));
        process
    }

    /// Those that have said who they are and hold device memory. Who only asks about the device, as nvidia-smi
    /// does, is none of its users.
    pub fn list(&self) -> Vec<NvmlProcess> {
        if let Some(ledger) = &self.ledger {
            return ledger.clients();
        }
        let all = lock(&self.here);
        all.iter()
            .filter_map(Weak::upgrade)
            .filter_map(|process| {
                let (client, pid) = lock(&process.named).clone()?;
                let used_bytes = process.budget.used();
                (used_bytes > 0).then_some(NvmlProcess {
                    pid,
                    used_bytes,
                    client,
                })
            })
            .collect()
    }
}

impl Process {
    /// Notes what the client says of itself.
    pub fn name(&self, client: &str, pid: u32) {
        *lock(&self.named) = Some((client.to_owned(), pid));
        if let Some((ledger, channel)) = &self.entry {
            ledger.name(*channel, client, pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_hold_memory_are_listed_until_their_end() {
        let (processes, whole) = (Processes::default(), Budget::new(100));
        let one = processes.add(0, whole.part());
        let two = processes.add(1, whole.part());
        let _held = one.budget.take(10);
        assert!(processes.list().is_empty());
        one.name("one", 11);
        two.name("two", 12);
        assert_eq!(processes.list().len(), 1);
        let _taken = two.budget.take(40);
        let list = processes.list();
        assert_eq!(list.len(), 2);
        assert_eq!((list[1].pid, list[1].used_bytes), (12, 40));
        drop(one);
        assert_eq!(processes.list().len(), 1);
    }
}
