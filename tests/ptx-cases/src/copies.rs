//! Asynchronous copies from global to shared memory (PTX ISA 9.7.9, `cp.async`).

use crate::form::{Table, Want::Bits};
use crate::memory::SHARED;
use crate::values::{D, all};

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.needs(70, 80);
    let v = all(&[&D[7..9], &D[5..8], &D[1..2], &D[9..10]]);
    let all_of = |i: &[u64], kept: usize, size: usize| {
        // 16 bytes of ones first, then `size` bytes over them, of which `kept` are copied and the rest zero.
        let mut bytes = [0xffu8; 16];
        let source: Vec<u8> = i[..2].iter().flat_map(|v| v.to_le_bytes()).collect();
        for k in 0..size {
            bytes[k] = if k < kept { source[k] } else { 0 };
        }
        let word = |k: usize| u64::from_le_bytes(bytes[k..k + 8].try_into().unwrap_or_default());
        vec![Bits(word(0)), Bits(word(8))]
    };
    let done = [
        "cp.async.wait_all;",
        "cp.async.commit_group; cp.async.wait_group 0;",
        "cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 1; cp.async.wait_all;",
    ];
    let mut n = 0;
    for space in [".shared.global", ".shared::cta.global"] {
        for (cop, size) in [("ca", 4usize), ("ca", 8), ("ca", 16), ("cg", 16)] {
            for hint in ["", ".L2::64B", ".L2::128B", ".L2::256B"] {
                if space.contains("cta") {
                    t.needs(78, 80)
                } else {
                    t.needs(74, 80)
                }
                let fill =
                    format!("{SHARED} mov.b64 %q3, -1; st.shared.v2.b64 [%r4], {{%q3, %q3}};");
                let read = "ld.shared.v2.b64 {%x, %y}, [%r4];";
                n += 1;
                let wait = done[n % 3];
                let opcode = format!("cp.async.{cop}{space}{hint}");
                let code = format!("{fill} {opcode} [%r4], [%in], {size}; {wait} {read}");
                t.code(
                    &format!("{opcode} of {size}"),
                    &code,
                    &["b64"; 4],
                    &["b64"; 2],
                    &v,
                    |i| all_of(i, size, size),
                )
                .alone = false;
                for kept in [0, size / 2, size] {
                    let code = format!(
                        "{fill} mov.u32 %r5, {kept}; {opcode} [%r4], [%in], {size}, %r5; {wait} {read}"
                    );
                    t.code(
                        &format!("{opcode} of {size}, {kept} from the source"),
                        &code,
                        &["b64"; 4],
                        &["b64"; 2],
                        &v,
                        |i| all_of(i, kept, size),
                    )
                    .alone = false;
                }
                let code = format!(
                    "{fill} setp.eq.u32 %p1, 0, 0; {opcode} [%r4], [%in], {size}, %p1; {wait} {read}"
                );
                t.needs(87, 80);
                t.code(
                    &format!("{opcode} of {size}, source ignored"),
                    &code,
                    &["b64"; 4],
                    &["b64"; 2],
                    &v,
                    |i| all_of(i, 0, size),
                )
                .alone = false;
            }
        }
    }
    t.needs(74, 80);
    let policy = "createpolicy.fractional.L2::evict_last.b64 %q5, 1.0;";
    let code = format!(
        "{SHARED} {policy} cp.async.cg.shared.global.L2::cache_hint.L2::128B [%r4], [%in], 16, %q5; cp.async.wait_all; ld.shared.v2.b64 {{%x, %y}}, [%r4];"
    );
    t.code(
        "cp.async.cg.shared.global.L2::cache_hint.L2::128B of 16",
        &code,
        &["b64"; 4],
        &["b64"; 2],
        &v,
        |i| all_of(i, 16, 16),
    )
    .alone = false;
    t.needs(63, 50);
}
