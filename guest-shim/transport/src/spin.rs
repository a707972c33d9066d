//! Looking again and again, on a processor that may be an emulated one.

use std::sync::OnceLock;

/// What QEMU's TCG says that it is, in leaf 0x4000_0000 of CPUID: EBX, ECX, EDX.
#[cfg(target_arch = "x86_64")]
const TCG: [u8; 12] = *b"TCGTCGTCGTCG";

/// True on a processor that QEMU's TCG emulates. There `pause` leaves the translated code, so that another virtual
/// processor may run, and the clock is read with a trap: either takes about as long as the answer to a call.
pub fn is_emulated() -> bool {
    static EMULATED: OnceLock<bool> = OnceLock::new();
    *EMULATED.get_or_init(look)
}

#[cfg(target_arch = "x86_64")]
fn look() -> bool {
    use std::arch::x86_64::__cpuid;
    const FEATURES: u32 = 1;
    const HYPERVISOR: u32 = 0x4000_0000;
    // Intel SDM, CPUID leaf 1: bit 31 of ECX is 0 on a real processor, and then there is no such leaf.
    if __cpuid(FEATURES).ecx >> 31 == 0 {
        return false;
    }
    let leaf = __cpuid(HYPERVISOR);
    signature([leaf.ebx, leaf.ecx, leaf.edx]) == TCG
}

#[cfg(target_arch = "x86_64")]
fn signature(words: [u32; 3]) -> [u8; 12] {
    let mut text = [0; 12];
    for (to, word) in text.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    text
}

#[cfg(not(target_arch = "x86_64"))]
fn look() -> bool {
    false
}

/// Tells the processor that this thread waits for another one, where that takes no longer than the wait.
#[inline]
pub fn pause() {
    if !is_emulated() {
        std::hint::spin_loop();
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_leaf_are_text_in_order() {
        let word = u32::from_le_bytes(*b"TCGT");
        let rest = [*b"CGTC", *b"GTCG"].map(u32::from_le_bytes);
        assert_eq!(signature([word, rest[0], rest[1]]), TCG);
        assert_ne!(signature([rest[0], word, rest[1]]), TCG);
    }
}
