//! Interrupts raised from any thread.
//!
//! MSI-X and INTx may be touched only under QEMU's big lock, which a worker thread must not
//! take. So [`Irq::raise`] notes the vector and schedules a bottom half, which the main loop
//! runs under the lock.
#![allow(unsafe_code)] // bottom half and interrupt calls into QEMU

use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bindings::{self, PCIDevice, QEMUBH};
use crate::pending::{Action, Mode, Pending};

/// Handle to the interrupts of a device; clones name the same device.
///
/// After the device is gone `raise` and `lower` do nothing.
#[derive(Clone)]
pub struct Irq(Arc<Line>);

impl Irq {
    /// Raises an interrupt: the MSI-X vector when the guest has enabled MSI-X, the level of
    /// pin A otherwise. A vector that the device does not have is ignored.
    pub fn raise(&self, vector: u32) {
        if self.0.pending.raise(vector) {
            self.0.schedule();
        }
    }

    /// Takes the level of pin A back, and every earlier `raise` that has not reached it yet.
    /// Message-signalled interrupts are not affected. The caller orders `lower` against its
    /// own `raise` calls, so that it cannot take back what was raised for a newer reason.
    pub fn lower(&self) {
        self.0.pending.lower();
        // SAFETY: no arguments; reads thread-local state.
        if unsafe { bindings::bql_locked() } {
            // A guest that acknowledges must see the pin low when its write returns.
            self.0.lower_now();
        } else {
            self.0.schedule();
        }
    }
}

/// Shared by the handles and the bottom half.
pub(crate) struct Line {
    pending: Pending,
    /// None once the device is unrealized.
    target: Mutex<Option<Target>>,
}

#[derive(Clone, Copy)]
struct Target {
    device: *mut PCIDevice,
    bh: *mut QEMUBH,
}

// SAFETY: the pointers are used under `Line::target`'s lock only, and cleared there before
// what they point to is freed. qemu_bh_schedule() may be called from any thread; what needs
// the big lock checks for it.
unsafe impl Send for Target {}

impl Line {
    /// Makes the line of a device under realize.
    ///
    /// # Safety
    /// The big lock is held; `device` stays valid until `close`.
    pub(crate) unsafe fn open(device: *mut PCIDevice, vectors: u32) -> Arc<Line> {
        let line = Arc::new(Line {
            pending: Pending::new(vectors),
            target: Mutex::new(None),
        });
        let opaque = Arc::as_ptr(&line).cast_mut().cast::<c_void>();
        // SAFETY: the name is static. The bottom half is deleted in `close`, which the owner
        // of this Arc calls before it drops it, so `opaque` is valid whenever it runs.
        let bh = unsafe {
            bindings::qemu_bh_new_full(
                Some(bottom_half),
                opaque,
                c"vgpu-stub irq".as_ptr(),
                std::ptr::null_mut(),
            )
        };
        *line.target() = Some(Target { device, bh });
        line
    }

    pub(crate) fn handle(self: &Arc<Line>) -> Irq {
        Irq(Arc::clone(self))
    }

    /// Cuts the line from the device; the big lock is held.
    pub(crate) fn close(&self) {
        if let Some(target) = self.target().take() {
            // SAFETY: made in `open`, deleted once: `target` was taken under the lock, and
            // nobody schedules it without holding that lock.
            unsafe { bindings::qemu_bh_delete(target.bh) }
        }
    }

    /// Forgets what is pending: after a reset nothing of before may arrive.
    pub(crate) fn reset(&self) {
        self.pending.clear();
        self.deliver();
    }

    fn target(&self) -> MutexGuard<'_, Option<Target>> {
        // No code that can panic runs under this lock.
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn schedule(&self) {
        if let Some(target) = &*self.target() {
            // SAFETY: the bottom half lives while `target` holds it and we hold its lock.
            unsafe { bindings::qemu_bh_schedule(target.bh) }
        }
    }

    /// Takes the pin's level back. The big lock is held. Messages stay with the bottom half: one
    /// may be a write to this very device, which must not come in the middle of what it does now.
    fn lower_now(&self) {
        let Some(Target { device, .. }) = *self.target() else {
            return;
        };
        if self.pending.take_lower() {
            self.set_level(device, 0);
        }
    }

    /// Brings what is pending to the guest. The big lock is held.
    fn deliver(&self) {
        let Some(Target { device, .. }) = *self.target() else {
            return;
        };
        // SAFETY: `close` runs under the big lock, as we do: the device is alive.
        let mode = match unsafe { bindings::msix_enabled(device) } {
            0 => Mode::Pin,
            _ => Mode::Msix,
        };
        self.pending.deliver(mode, |action| match action {
            Action::Lower => self.set_level(device, 0),
            Action::Fire(vector) => {
                let msix = mode == Mode::Msix;
                // SAFETY: plain numbers.
                unsafe { bindings::vgpu_shim_trace_irq(vector, msix) };
                if msix {
                    // SAFETY: the device is alive, the big lock held, the vector in use since
                    // realize: `Pending` was made with the number that MSI-X has.
                    unsafe { bindings::msix_notify(device, vector) };
                } else {
                    self.set_level(device, 1);
                }
            }
        });
    }

    fn set_level(&self, device: *mut PCIDevice, level: c_int) {
        // SAFETY: callers hold the big lock and have a live device with interrupt pin A.
        unsafe { bindings::pci_set_irq(device, level) }
    }
}

unsafe extern "C" fn bottom_half(opaque: *mut c_void) {
    // SAFETY: `opaque` is the Line of `open`, alive until the bottom half is deleted; other
    // threads hold shared references only, as here.
    let line = unsafe { &*opaque.cast::<Line>() };
    line.deliver();
}
