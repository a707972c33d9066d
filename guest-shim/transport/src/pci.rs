//! The device on the guest's PCI bus, through sysfs: no kernel driver is needed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use vgpu_protocol::layout::Layout;
use vgpu_protocol::regs::{CHANNEL_PAGES, ChannelReg, MAGIC, PAGE_BYTES, Reg};
use vgpu_protocol::window::Window;

use crate::bars::{Bars, HeapPiece, PciAddress};
use crate::error::ConnectError;
use crate::sys::{self, Mapping};
use crate::uio::Uio;

/// Where Linux shows PCI functions.
pub const SYSFS: &str = "/sys/bus/pci/devices";

/// Vendor, device and class of each identity, and its word in the log.
const IDENTITIES: &[(u32, u32, u32, &str)] = &[
    (0x10de, 0x2331, 0x030200, "exact"),
    (0x1234, 0x11e9, 0x00ff00, "stub"),
];

/// Memory space enable, a bit of the PCI command register (PCI Local Bus 3.0, section 6.2.2).
const COMMAND_MEMORY: u8 = 1 << 1;

/// A function whose ids are those of the device.
#[derive(Debug)]
struct Candidate {
    folder: PathBuf,
    address: PciAddress,
    ids: (u32, u32, u32, &'static str),
}

/// The device's BARs, mapped from sysfs.
#[derive(Debug)]
pub struct PciBars {
    candidate: Candidate,
    registers: File,
    registers_path: PathBuf,
    control: Mapping,
    /// Register page of the channel that was opened, and its number.
    page: OnceLock<(u32, Mapping)>,
    area: OnceLock<Mapping>,
    uio: Option<Uio>,
    /// BAR1's file, once a piece of its heap was mapped.
    memory: OnceLock<File>,
}

fn number(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

fn candidates(root: &Path) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let folder = entry.path();
            let address = PciAddress::parse(entry.file_name().to_str()?)?;
            let vendor = number(&folder.join("vendor"))?;
            let device = number(&folder.join("device"))?;
            let class = number(&folder.join("class"))?;
            let ids = IDENTITIES
                .iter()
                .find(|i| (i.0, i.1, i.2) == (vendor, device, class))?;
            Some(Candidate {
                folder,
                address,
                ids: *ids,
            })
        })
        .collect();
    found.sort_by_key(|c| c.address.to_string());
    found
}

fn open(path: &Path) -> Result<File, ConnectError> {
    // std opens with O_CLOEXEC.
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ConnectError::Permission { path: path.into() },
            _ => ConnectError::io(format!("open {}", path.display()))(error),
        })
}

fn map(file: &File, path: &Path, offset: u64, bytes: u64) -> Result<Mapping, ConnectError> {
    Mapping::new(file.as_fd(), offset, bytes as usize).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => ConnectError::Lockdown { path: path.into() },
        _ => ConnectError::io(format!(
            "mmap {} bytes at {offset:#x} of {}",
            bytes,
            path.display()
        ))(error),
    })
}

/// Makes the device answer to memory accesses, as firmware does at boot but nobody after hot-plug.
fn enable(candidate: &Candidate) -> Result<(), ConnectError> {
    let config = fs::read(candidate.folder.join("config")).unwrap_or_default();
    match config.get(4) {
        Some(command) if command & COMMAND_MEMORY == 0 => {
            fs::write(candidate.folder.join("enable"), "1").map_err(|_| {
                ConnectError::MemoryDisabled {
                    address: candidate.address.to_string(),
                }
            })
        }
        _ => Ok(()),
    }
}

impl PciBars {
    /// Finds the device below `root`, the one with the address `wanted` where there are several.
    pub fn find(root: &Path, wanted: Option<&str>) -> Result<PciBars, ConnectError> {
        let mut all = candidates(root);
        if all.is_empty() {
            return Err(ConnectError::NoDevice { place: root.into() });
        }
        if let Some(wanted) = wanted {
            let found: Vec<String> = all.iter().map(|c| c.address.to_string()).collect();
            let address = PciAddress::parse(wanted);
            all.retain(|c| Some(c.address) == address);
            if all.is_empty() {
                return Err(ConnectError::NotThatDevice {
                    wanted: wanted.into(),
                    found: found.join(", "),
                });
            }
        }
        // A real GPU that is passed through may have the same ids: the next one may be ours.
        let mut first_error = None;
        for candidate in all {
            match PciBars::new(candidate) {
                Ok(bars) => return Ok(bars),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| ConnectError::NoDevice { place: root.into() }))
    }

    fn new(candidate: Candidate) -> Result<PciBars, ConnectError> {
        let registers_path = candidate.folder.join("resource0");
        let registers = open(&registers_path)?;
        enable(&candidate)?;
        let control = map(&registers, &registers_path, 0, PAGE_BYTES)?;
        let uio = Uio::open(&candidate.folder);
        let bars = PciBars {
            uio,
            candidate,
            registers,
            registers_path,
            control,
            page: OnceLock::new(),
            area: OnceLock::new(),
            memory: OnceLock::new(),
        };
        let magic = bars.read32(Reg::Magic.offset())?;
        if magic != MAGIC {
            return Err(ConnectError::Magic {
                device: bars.candidate.address.to_string(),
                found: magic,
                expected: MAGIC,
            });
        }
        Ok(bars)
    }

    fn map_page(&self, channel: u32) -> Result<Mapping, ConnectError> {
        let offset = CHANNEL_PAGES + u64::from(channel) * PAGE_BYTES;
        map(&self.registers, &self.registers_path, offset, PAGE_BYTES)
    }

    /// Where the opened channel's interrupt is shown.
    fn irq_bit(&self) -> Option<(Reg, u32)> {
        let (channel, _) = self.page.get()?;
        Some(match channel {
            0..32 => (Reg::IrqStatusLo, 1 << channel),
            _ => (Reg::IrqStatusHi, 1 << (channel & 31)),
        })
    }

    /// Runs `f` on the page that holds the register at `offset`.
    fn at<T>(&self, offset: u64, f: impl FnOnce(Window, u64) -> T) -> Result<T, ConnectError> {
        let Some(in_pages) = offset.checked_sub(CHANNEL_PAGES) else {
            return Ok(f(self.control.window(), offset));
        };
        let channel = (in_pages / PAGE_BYTES) as u32;
        let in_page = in_pages % PAGE_BYTES;
        match self.page.get() {
            Some((own, page)) if *own == channel => Ok(f(page.window(), in_page)),
            // Only while channels are looked through: not worth keeping.
            _ => Ok(f(self.map_page(channel)?.window(), in_page)),
        }
    }
}

fn outside(offset: u64) -> ConnectError {
    ConnectError::Layout(format!("no register at BAR0 {offset:#x}"))
}

impl Bars for PciBars {
    fn found(&self) -> String {
        let (vendor, device, class, word) = self.candidate.ids;
        format!(
            "{} (vendor={vendor:#06x} device={device:#06x} class={class:#08x} match={word})",
            self.candidate.address
        )
    }

    fn address(&self) -> Option<PciAddress> {
        Some(self.candidate.address)
    }

    // Relaxed loads and stores of 32 bits compile to the plain moves that registers need.
    fn read32(&self, offset: u64) -> Result<u32, ConnectError> {
        self.at(offset, |page, at| {
            page.word32(at).map(|w| w.load(Ordering::Relaxed))
        })?
        .map_err(|_| outside(offset))
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), ConnectError> {
        self.at(offset, |page, at| {
            page.word32(at).map(|w| w.store(value, Ordering::Relaxed))
        })?
        .map_err(|_| outside(offset))
    }

    fn open(&self, layout: &Layout, channel: u32) -> Result<Window, ConnectError> {
        let page = self.map_page(channel)?;
        let path = self.candidate.folder.join("resource1");
        let file = open(&path)?;
        // Only this channel's area: page tables of all of BAR1 could take megabytes. The mapping
        // stays when the file is closed, and nobody locks this file.
        let area = map(&file, &path, layout.area(channel), layout.area_bytes)?;
        let window = area.window();
        if self.page.set((channel, page)).is_err() || self.area.set(area).is_err() {
            return Err(ConnectError::Layout("the device was opened twice".into()));
        }
        Ok(window)
    }

    fn map_heap(&self, offset: u64, bytes: u64, address: u64) -> Result<HeapPiece, ConnectError> {
        let path = self.candidate.folder.join("resource1");
        let file = match self.memory.get() {
            Some(file) => file,
            None => {
                let file = open(&path)?;
                self.memory.get_or_init(|| file)
            }
        };
        Mapping::near(file.as_fd(), offset, bytes as usize, address)
            .map(HeapPiece::new)
            .map_err(ConnectError::io(format!(
                "mmap {bytes} bytes at {offset:#x} of {}",
                path.display()
            )))
    }

    fn ring(&self) {
        if let Some((_, page)) = self.page.get()
            && let Ok(doorbell) = page.window().word32(ChannelReg::Doorbell.offset())
        {
            doorbell.store(1, Ordering::Relaxed);
        }
    }

    fn interrupts(&self) -> bool {
        self.uio.is_some()
    }

    fn clear_interrupt(&self) {
        if let Some((register, own)) = self.irq_bit()
            && let Ok(pending) = self.read32(register.offset())
            && pending & own != 0
        {
            let _ = self.write32(register.offset(), own);
        }
    }

    fn wait_interrupt(&self, limit: Duration) -> Result<(), ConnectError> {
        let (Some(uio), Some((register, own))) = (&self.uio, self.irq_bit()) else {
            return Err(ConnectError::Layout("there are no interrupts".into()));
        };
        uio.wait(limit)
            .map_err(ConnectError::io("wait for /dev/uio"))?;
        let pending = self.read32(register.offset())?;
        if uio.is_stuck(pending & own != 0) {
            // All who sleep were woken with us: a bit that stays is a dead process's.
            for register in [Reg::IrqStatusLo, Reg::IrqStatusHi] {
                let pending = self.read32(register.offset())?;
                self.write32(register.offset(), pending)?;
            }
        }
        Ok(())
    }

    fn try_lock(&self, channel: u32) -> Result<bool, ConnectError> {
        sys::try_lock(self.registers.as_fd(), channel).map_err(ConnectError::io(format!(
            "lock {}",
            self.registers_path.display()
        )))
    }

    fn unlock(&self, channel: u32) {
        sys::unlock(self.registers.as_fd(), channel);
    }

    fn owned_here(&self, channel: u32) -> bool {
        // A living owner in this process has the channel's page mapped.
        let Ok(inode) = self.registers.metadata().map(|m| m.ino()) else {
            return false;
        };
        let offset = CHANNEL_PAGES + u64::from(channel) * PAGE_BYTES;
        maps_show(
            &fs::read_to_string("/proc/self/maps").unwrap_or_default(),
            inode,
            offset,
        )
    }

    fn descriptors(&self) -> Vec<i32> {
        let uio = self.uio.iter().flat_map(Uio::descriptors);
        std::iter::once(self.registers.as_raw_fd())
            .chain(uio)
            .collect()
    }
}

/// True if a line of /proc/self/maps (proc(5): address perms offset dev inode path) has this
/// inode and offset.
fn maps_show(maps: &str, inode: u64, offset: u64) -> bool {
    maps.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(2);
        let at = fields.next().and_then(|f| u64::from_str_radix(f, 16).ok());
        let file = fields.nth(1).and_then(|f| f.parse().ok());
        at == Some(offset) && file == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vgpu_protocol::regs::BAR0_BYTES;

    struct Bus(PathBuf);

    impl Bus {
        fn new(name: &str) -> Bus {
            let folder =
                std::env::temp_dir().join(format!("vgpu-pci-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("temporary folder");
            Bus(folder)
        }

        fn add(&self, address: &str, ids: (&str, &str, &str), magic: u32) -> PathBuf {
            let folder = self.0.join(address);
            fs::create_dir(&folder).expect("new");
            for (name, value) in [("vendor", ids.0), ("device", ids.1), ("class", ids.2)] {
                fs::write(folder.join(name), format!("{value}\n")).expect("writable");
            }
            let mut bar0 = vec![0u8; BAR0_BYTES as usize];
            bar0[8..12].copy_from_slice(&magic.to_le_bytes());
            fs::write(folder.join("resource0"), bar0).expect("writable");
            folder
        }
    }

    impl Drop for Bus {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const H100: (&str, &str, &str) = ("0x10de", "0x2331", "0x030200");
    const STUB: (&str, &str, &str) = ("0x1234", "0x11e9", "0x00ff00");

    #[test]
    fn both_identities_are_found_and_a_real_gpu_is_passed_over() {
        let bus = Bus::new("find");
        bus.add("0000:00:04.0", H100, 0x1640_00a1);
        bus.add("0000:00:05.0", H100, MAGIC);
        bus.add("0000:00:06.0", STUB, MAGIC);
        bus.add("0000:00:07.0", ("0x8086", "0x2331", "0x030200"), MAGIC);
        let bars = PciBars::find(&bus.0, None).expect("found");
        assert_eq!(
            bars.found(),
            "0000:00:05.0 (vendor=0x10de device=0x2331 class=0x030200 match=exact)"
        );
        let stub = PciBars::find(&bus.0, Some("00:06.0")).expect("found");
        assert_eq!(
            stub.found(),
            "0000:00:06.0 (vendor=0x1234 device=0x11e9 class=0x00ff00 match=stub)"
        );
        let error = PciBars::find(&bus.0, Some("0000:00:07.0")).expect_err("other ids");
        assert!(
            error
                .to_string()
                .contains("found: 0000:00:04.0, 0000:00:05.0, 0000:00:06.0"),
            "{error}"
        );
        let error = PciBars::find(&bus.0, Some("0000:00:04.0")).expect_err("not ours");
        assert!(
            matches!(
                error,
                ConnectError::Magic {
                    found: 0x1640_00a1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn an_empty_bus_says_what_was_looked_for() {
        let bus = Bus::new("empty");
        let error = PciBars::find(&bus.0, None).expect_err("nothing there");
        assert!(error.to_string().contains("10de:2331"), "{error}");
        assert_eq!(error.status(), vgpu_protocol::Status::ERROR_NO_DEVICE);
    }

    #[test]
    fn a_device_without_memory_decoding_is_enabled_through_sysfs() {
        let bus = Bus::new("enable");
        let folder = bus.add("0000:00:05.0", H100, MAGIC);
        fs::write(folder.join("config"), [0xde, 0x10, 0x31, 0x23, 0x00, 0x00]).expect("writable");
        PciBars::find(&bus.0, None).expect("enabled");
        assert_eq!(
            fs::read_to_string(folder.join("enable")).expect("written"),
            "1"
        );
    }

    #[test]
    fn an_owner_in_this_process_is_seen_by_its_mapping() {
        let bus = Bus::new("maps");
        bus.add("0000:00:05.0", H100, MAGIC);
        let bars = PciBars::find(&bus.0, None).expect("found");
        assert!(!bars.owned_here(3));
        let page = bars.map_page(3).expect("mappable");
        assert!(bars.owned_here(3));
        assert!(!bars.owned_here(2));
        drop(page);
        assert!(!bars.owned_here(3));
    }
}
