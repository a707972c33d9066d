//! Where a device is on the guest's PCI bus, and what it is there.

use std::ffi::c_char;
use std::fs;
use std::path::Path;

/// Vendor and device of the device's identities, as in `docs/specs/vgpu-stub.rst`.
const IDENTITIES: [(u32, u32); 2] = [(0x10de, 0x2331), (0x1234, 0x11e9)];

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pci {
    pub domain: u32,
    pub bus: u32,
    pub device: u32,
    /// Device in the upper, vendor in the lower half.
    pub id: u32,
    pub subsystem: u32,
    pub base_class: u32,
    pub sub_class: u32,
}

/// Domain, bus and device of `0000:00:05.0`; domain and function may be left out.
pub fn parse(text: &str) -> Option<(u32, u32, u32)> {
    let text = text.trim();
    let text = match text.split_once('.') {
        Some((address, "0")) => address,
        Some(_) => return None,
        None => text,
    };
    let words: Vec<u32> = text
        .split(':')
        .map(|word| {
            let plain = word.chars().all(|c| c.is_ascii_hexdigit());
            plain.then(|| u32::from_str_radix(word, 16).ok()).flatten()
        })
        .collect::<Option<_>>()?;
    match words[..] {
        [bus, device] => Some((0, bus, device)),
        [domain, bus, device] => Some((domain, bus, device)),
        _ => None,
    }
}

impl Pci {
    /// The function at an address as libcuda tells it, with what sysfs says of it.
    pub fn find(address: &str, sysfs: &Path) -> Pci {
        let (domain, bus, device) = parse(address).unwrap_or_default();
        let folder = sysfs.join(format!("{domain:04x}:{bus:02x}:{device:02x}.0"));
        let number = |name| {
            let text = fs::read_to_string(folder.join(name)).ok()?;
            u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
        };
        let of = |vendor, device| {
            let (vendor, device) = (number(vendor)?, number(device)?);
            Some((vendor, device))
        };
        let id = of("vendor", "device").filter(|id| IDENTITIES.contains(id));
        // Without a PCI bus (vgpu-local) the device has its plain identity.
        let on_bus = id.is_some();
        let (vendor, product) = id.unwrap_or(IDENTITIES[1]);
        let subsystem = of("subsystem_vendor", "subsystem_device").filter(|_| on_bus);
        let class = number("class").filter(|_| on_bus).unwrap_or(0x00_ff00);
        Pci {
            domain,
            bus,
            device,
            id: product << 16 | vendor,
            subsystem: subsystem.map_or(0, |(vendor, device)| device << 16 | vendor),
            base_class: class >> 16 & 0xff,
            sub_class: class >> 8 & 0xff,
        }
    }

    /// `00000000:00:05.0`.
    pub fn bus_id(&self) -> String {
        format!("{:08X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }

    /// `0000:00:05.0`.
    pub fn legacy_bus_id(&self) -> String {
        format!("{:04X}:{:02X}:{:02X}.0", self.domain, self.bus, self.device)
    }
}

/// Text as an array of a struct, cut to what fits with a NUL.
pub fn array<const N: usize>(text: &str) -> [c_char; N] {
    let mut out = [0; N];
    for (place, byte) in out.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as c_char;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_every_form() {
        for text in [
            "0000:00:05.0",
            "00000000:00:05.0",
            "00:05.0",
            "00:05",
            "0000:00:05",
        ] {
            assert_eq!(parse(text), Some((0, 0, 5)), "{text}");
        }
        for text in ["", "5", "0:0:0:5", "00:0g.0", "00:05.1", "00:05.", "+0:05"] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("0001:AF:1f.0"), Some((1, 0xaf, 0x1f)));
    }

    #[test]
    fn ids_come_from_sysfs_where_it_is_our_device() {
        let sysfs = std::env::temp_dir().join(format!("vgpu-nvml-pci-{}", std::process::id()));
        let folder = sysfs.join("0000:00:05.0");
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("vendor", "0x10de\n");
        write("device", "0x2331\n");
        write("subsystem_vendor", "0x10de\n");
        write("subsystem_device", "0x1626\n");
        write("class", "0x030200\n");
        let pci = Pci::find("0000:00:05.0", &sysfs);
        assert_eq!((pci.id, pci.subsystem), (0x2331_10de, 0x1626_10de));
        assert_eq!((pci.base_class, pci.sub_class), (3, 2));
        assert_eq!(pci.bus_id(), "00000000:00:05.0");
        // Another device at that address, as on a host with vgpu-local.
        write("device", "0x1237\n");
        assert_eq!(Pci::find("0000:00:05.0", &sysfs).id, 0x11e9_1234);
        fs::remove_dir_all(sysfs).unwrap();
    }

    #[test]
    fn text_in_a_struct_ends_with_a_nul() {
        let cut: [c_char; 4] = array("abcdef");
        assert_eq!(cut, [b'a' as c_char, b'b' as c_char, b'c' as c_char, 0]);
    }
}
