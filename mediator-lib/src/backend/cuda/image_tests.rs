use super::*;

const PTX: &[u8] = b".version 8.0\n.target sm_90\n.address_size 64\n";

fn fatbin(entries: &[Vec<u8>]) -> Vec<u8> {
    let payload = entries.concat();
    let mut out = Vec::new();
    out.extend(FATBIN.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(16u16.to_le_bytes());
    out.extend((payload.len() as u64).to_le_bytes());
    out.extend(payload);
    out
}

fn entry(kind: u16, flags: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 64];
    out[0..2].copy_from_slice(&kind.to_le_bytes());
    out[4..8].copy_from_slice(&64u32.to_le_bytes());
    out[8..16].copy_from_slice(&(payload.len() as u64).to_le_bytes());
    out[40..48].copy_from_slice(&flags.to_le_bytes());
    out.extend(payload);
    out
}

fn ptx_entry() -> Vec<u8> {
    entry(ENTRY_PTX, 0, &[PTX, &[0; 8]].concat())
}

/// Header, one program header and two sections, the second of `bytes` bytes at `at`.
fn elf(kind: u32, at: u64, bytes: u64) -> Vec<u8> {
    let mut out = vec![0; 64 + 56 + 2 * 64 + 16];
    out[..6].copy_from_slice(b"\x7fELF\x02\x01");
    out[32..40].copy_from_slice(&64u64.to_le_bytes());
    out[40..48].copy_from_slice(&120u64.to_le_bytes());
    for (offset, value) in [(54, 56u16), (56, 1), (58, 64), (60, 2)] {
        out[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    let section = 120 + 64;
    out[section + 4..section + 8].copy_from_slice(&kind.to_le_bytes());
    out[section + 24..section + 32].copy_from_slice(&at.to_le_bytes());
    out[section + 32..section + 40].copy_from_slice(&bytes.to_le_bytes());
    out
}

fn refused(image: &[u8]) -> String {
    CheckedImage::check(image).expect_err("must be refused")
}

fn set_u64(image: &mut [u8], at: usize, value: u64) {
    image[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn text_gets_exactly_one_nul() {
    let plain = CheckedImage::check(PTX).expect("PTX");
    assert_eq!(plain.bytes(), [PTX, &[0]].concat());
    let ended = [PTX, &[0]].concat();
    assert_eq!(CheckedImage::check(&ended).expect("PTX").bytes(), ended);
    assert_eq!(
        plain.ptx().collect::<Vec<_>>(),
        [std::str::from_utf8(PTX).expect("text")]
    );
}

#[test]
fn a_nul_inside_of_text_is_refused() {
    assert!(refused(b".version 8.0\0.target sm_90").contains("at byte 12"));
    assert!(refused(b".version\0\0").contains("NUL"));
}

#[test]
fn what_is_no_image_is_refused() {
    for image in [
        &b""[..],
        b"\0",
        b"hello",
        b"\xb1\x43\x62\x46wrapper",
        b"\x7fEL",
    ] {
        refused(image);
    }
}

#[test]
fn a_fat_binary_passes_and_shows_its_ptx() {
    let image = fatbin(&[
        ptx_entry(),
        entry(ENTRY_ELF, 0, &elf(1, 0, 64)),
        entry(ENTRY_PTX, 0x2000, &[1, 2, 3]),
    ]);
    let checked = CheckedImage::check(&image).expect("a fat binary");
    assert_eq!(checked.ptx().count(), 1);
    assert!(checked.ptx().all(|p| p.starts_with(".version")));
    // What follows the payload is not the driver's to read.
    let longer = [image, vec![0xff; 9]].concat();
    assert!(CheckedImage::check(&longer).is_ok());
}

#[test]
fn a_fat_binary_that_says_more_than_it_has_is_refused() {
    let good = fatbin(&[ptx_entry()]);
    let mut outer = good.clone();
    let payload = (good.len() - 16) as u64;
    set_u64(&mut outer, 8, payload + 1);
    assert!(refused(&outer).contains("header says"));
    set_u64(&mut outer, 8, u64::MAX);
    refused(&outer);
    let mut inner = good.clone();
    let body = payload - 64;
    set_u64(&mut inner, 16 + 8, body + 1);
    assert!(refused(&inner).contains("are left"));
    set_u64(&mut inner, 16 + 8, u64::MAX);
    refused(&inner);
    for cut in 1..good.len() {
        refused(&good[..cut]);
    }
}

#[test]
fn an_entry_cannot_point_outside_of_itself() {
    let mut name = fatbin(&[ptx_entry()]);
    let next = (name.len() - 16) as u32;
    name[16 + 32..16 + 36].copy_from_slice(&(next - 4).to_le_bytes());
    name[16 + 36..16 + 40].copy_from_slice(&4u32.to_le_bytes());
    assert!(CheckedImage::check(&name).is_ok());
    name[16 + 36..16 + 40].copy_from_slice(&5u32.to_le_bytes());
    assert!(refused(&name).contains("name"));
    assert!(refused(&fatbin(&[entry(ENTRY_PTX, 0, PTX)])).contains("no NUL"));
    let mut small = ptx_entry();
    small[4..8].copy_from_slice(&63u32.to_le_bytes());
    refused(&fatbin(&[small]));
}

#[test]
fn an_entry_unpacks_to_the_limit_and_no_further() {
    let mut packed = entry(ENTRY_PTX, 0x8000, &[0; 32]);
    set_u64(&mut packed, 56, MAX_MESSAGE_BYTES);
    assert!(CheckedImage::check(&fatbin(&[packed.clone()])).is_ok());
    set_u64(&mut packed, 56, MAX_MESSAGE_BYTES + 1);
    assert!(refused(&fatbin(&[packed])).contains("unpacks"));
}

#[test]
fn entries_are_counted() {
    let entries = |count: usize| fatbin(&vec![entry(7, 0, &[]); count]);
    assert!(CheckedImage::check(&entries(MAX_FATBIN_ENTRIES)).is_ok());
    assert!(refused(&entries(MAX_FATBIN_ENTRIES + 1)).contains("more than"));
}

#[test]
fn sections_of_an_elf_file_stay_inside_it() {
    let bytes = elf(1, 0, 0).len() as u64;
    assert!(CheckedImage::check(&elf(1, bytes - 16, 16)).is_ok());
    assert!(refused(&elf(1, bytes - 16, 17)).contains("section 1"));
    assert!(refused(&elf(1, u64::MAX, 2)).contains("section 1"));
    assert!(
        CheckedImage::check(&elf(NOBITS, bytes - 16, 1 << 40)).is_ok(),
        "no bytes in the file"
    );
}

#[test]
fn tables_of_an_elf_file_stay_inside_it() {
    let good = elf(1, 0, 0);
    for (offset, value) in [
        (40, good.len() as u64 - 127),
        (32, good.len() as u64 - 55),
        (40, u64::MAX),
        (32, u64::MAX),
    ] {
        let mut bad = good.clone();
        set_u64(&mut bad, offset, value);
        assert!(refused(&bad).contains("table"), "{offset} {value}");
    }
    let mut no_count = good.clone();
    no_count[60..62].fill(0);
    refused(&no_count);
    for cut in 4..good.len() - 16 {
        refused(&good[..cut]);
    }
}
