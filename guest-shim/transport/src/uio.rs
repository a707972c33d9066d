//! Interrupts through the kernel's generic UIO driver, where somebody has bound it to the device.
//!
//! `uio_pci_generic` masks the device's interrupt line (INTx) in the command register when it comes
//! and wakes all who have opened `/dev/uioN`, in whatever process; the line is masked until a
//! process clears the bit again (PCI Local Bus 3.0, section 6.2.2, "Interrupt Disable"). The device
//! holds the line while any channel's bit of IRQ_STATUS is set.
//!
//! Whoever sleeps looks again by itself every now and then (`LOOK_TIME`), so that a lost interrupt
//! costs time and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::log_debug;
use crate::sys;

/// Name of the driver.
const DRIVER: &str = "uio_pci_generic";

/// Second byte of the command register, and its bit that masks INTx.
const COMMAND_HIGH: u64 = 5;
const INTX_DISABLE: u8 = 1 << 2;

/// An opened `/dev/uioN`.
#[derive(Debug)]
pub struct Uio {
    events: File,
    config: File,
    /// Interrupts in a row that were another channel's.
    foreign: AtomicU32,
}

impl Uio {
    /// The device in the folder of sysfs, where the driver has it and this process may use it.
    pub fn open(folder: &Path) -> Option<Uio> {
        let driver = fs::read_link(folder.join("driver")).ok()?;
        if driver.file_name()? != DRIVER {
            return None;
        }
        let name = fs::read_dir(folder.join("uio"))
            .ok()?
            .flatten()
            .next()?
            .file_name();
        Self::over(&Path::new("/dev").join(name), &folder.join("config"))
    }

    fn over(events: &Path, config: &Path) -> Option<Uio> {
        let open = |path: &Path, write: bool| {
            let file = OpenOptions::new().read(true).write(write).open(path);
            file.inspect_err(|error| {
                log_debug!("no interrupts: open {}: {error}", path.display());
            })
            .ok()
        };
        let uio = Uio {
            events: open(events, false)?,
            config: open(config, true)?,
            foreign: AtomicU32::new(0),
        };
        // Without the right to unmask the line, the first interrupt would be the last one.
        match uio.unmask() {
            Ok(()) => Some(uio),
            Err(error) => {
                log_debug!("no interrupts: write {}: {error}", config.display());
                None
            }
        }
    }

    /// Descriptors that a child of fork must not keep.
    pub fn descriptors(&self) -> [i32; 2] {
        [self.events.as_raw_fd(), self.config.as_raw_fd()]
    }

    /// Lets the line through again.
    fn unmask(&self) -> io::Result<()> {
        let mut command = [0];
        self.config.read_exact_at(&mut command, COMMAND_HIGH)?;
        command[0] &= !INTX_DISABLE;
        self.config.write_all_at(&command, COMMAND_HIGH)
    }

    /// Sleeps until an interrupt comes, or so long.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        self.unmask()?;
        if sys::wait_readable(self.events.as_fd(), limit)? {
            // The count of interrupts so far: reading it is what makes the next wait wait.
            (&self.events).read_exact(&mut [0; 4])?;
        }
        Ok(())
    }

    /// Counts interrupts that were not this channel's. True where there were so many that their
    /// owner must be dead: somebody has to clear its bit.
    pub fn is_stuck(&self, own: bool) -> bool {
        const MANY: u32 = 64;
        if own {
            self.foreign.store(0, Ordering::Relaxed);
            return false;
        }
        let before = self.foreign.fetch_add(1, Ordering::Relaxed);
        if before + 1 < MANY {
            return false;
        }
        self.foreign.store(0, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe stands for `/dev/uioN`: bytes are interrupts.
    #[test]
    fn the_line_is_unmasked_before_each_wait() {
        let folder = std::env::temp_dir().join(format!("vgpu-uio-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (events, config) = (folder.join("events"), folder.join("config"));
        fs::write(&config, [0xde, 0x10, 0x31, 0x23, 0x06, 0x05, 0, 0]).expect("written");
        sys::make_fifo(&events).expect("a fifo");
        // Both ends, so that opening waits for nobody.
        let mut device = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&events)
            .expect("fifo");
        let command = || fs::read(&config).expect("there")[5];
        let uio = Uio::over(&events, &config).expect("opened");
        assert_eq!(
            command(),
            0x01,
            "the bit is clear, the others are as before"
        );
        uio.wait(Duration::from_millis(1)).expect("waited in vain");
        // What the kernel does.
        let mut masked = fs::read(&config).expect("there");
        masked[5] |= INTX_DISABLE;
        fs::write(&config, &masked).expect("written");
        io::Write::write_all(&mut device, &7u32.to_le_bytes()).expect("written");
        let began = std::time::Instant::now();
        uio.wait(Duration::from_secs(600)).expect("woken");
        assert!(began.elapsed() < Duration::from_secs(300));
        assert_eq!(command(), 0x01);
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn an_interrupt_that_nobody_clears_is_noticed() {
        let (read, _write) = io::pipe().expect("a pipe");
        let file = |fd: &io::PipeReader| {
            File::from(fd.as_fd().try_clone_to_owned().expect("a descriptor"))
        };
        let uio = Uio {
            events: file(&read),
            config: file(&read),
            foreign: AtomicU32::new(0),
        };
        assert!((1..64).all(|_| !uio.is_stuck(false)));
        assert!(uio.is_stuck(false));
        assert!(!uio.is_stuck(false));
        assert!(!uio.is_stuck(true));
    }
}
