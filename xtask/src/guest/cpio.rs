//! An archive in the form in which the kernel unpacks an initramfs (`newc`, see the kernel's
//! "initramfs buffer format"). Archives may be put one behind the other.

/// File type and permission bits, as in `st_mode`.
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

/// An archive that grows.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// Adds an executable file.
    pub fn file(&mut self, path: &str, data: &[u8]) {
        self.entry(path, EXECUTABLE, (0, 0), data);
    }

    /// Adds the device node of the kernel's console.
    pub fn console(&mut self, path: &str) {
        self.entry(path, CONSOLE, (5, 1), &[]);
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), data: &[u8]) {
        self.entries += 1;
        let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let fields = [
            self.entries,           // inode
            mode,                   //
            0,                      // user
            0,                      // group
            1,                      // links
            0,                      // modification time
            length(data.len()),     //
            0,                      // major number of the file system's device
            0,                      // minor number
            major,                  // of the node
            minor,                  //
            length(path.len() + 1), // with the final NUL
            0,                      // no checksum in this form
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_has_the_documented_layout() {
        let mut archive = Archive::default();
        archive.file("a", b"xyz");
        let bytes = archive.finish();
        // 110 bytes of header, "a\0" padded to 112, "xyz" padded to 116, then the trailer.
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[6 + 8..6 + 16], b"000081ED");
        assert_eq!(&bytes[54..62], b"00000003");
        assert_eq!(&bytes[110..116], b"a\0xyz\0");
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
