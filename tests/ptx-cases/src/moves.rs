//! `mov`: of one value, of parts of one, of constants (PTX ISA 9.7.9).

use crate::convert::values_of;
use crate::form::{Table, Want::Bits};
use crate::values::{D, H, HH, W, all, some};

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Moves");
    t.needs(63, 50);
    for (ty, reg) in [
        ("b16", "b16"),
        ("u16", "b16"),
        ("s16", "b16"),
        ("b32", "b32"),
        ("u32", "b32"),
        ("s32", "b32"),
        ("f32", "b32"),
        ("b64", "b64"),
        ("u64", "b64"),
        ("s64", "b64"),
        ("f64", "b64"),
        ("pred", "pred"),
    ] {
        let v: &[u64] = if reg == "pred" {
            &[0, 1]
        } else {
            values_of(reg)
        };
        t.bits(&format!("mov.{ty}"), &[reg], reg, &all(&[v]), |i| i[0]);
    }
    let (h, w) = (all(&[&H, &H]), all(&[&W, &W]));
    t.bits("mov.b32 of two", &["b16", "b16"], "b32", &h, |i| {
        i[1] << 16 | i[0]
    })
    .code = "mov.b32 %x, {%a, %b};".into();
    t.bits("mov.b64 of two", &["b32", "b32"], "b64", &w, |i| {
        i[1] << 32 | i[0]
    })
    .code = "mov.b64 %x, {%a, %b};".into();
    let four = some(&[&H, &H, &H, &H], 300);
    t.bits("mov.b64 of four", &["b16"; 4], "b64", &four, |i| {
        i[3] << 48 | i[2] << 32 | i[1] << 16 | i[0]
    })
    .code = "mov.b64 %x, {%a, %b, %c, %e};".into();
    t.code(
        "mov.b32 into two",
        "mov.b32 {%x, %y}, %a;",
        &["b32"],
        &["b16", "b16"],
        &all(&[&HH]),
        |i| vec![Bits(i[0] & 0xffff), Bits(i[0] >> 16)],
    );
    t.code(
        "mov.b64 into two",
        "mov.b64 {%x, %y}, %a;",
        &["b64"],
        &["b32", "b32"],
        &all(&[&D]),
        |i| vec![Bits(i[0] & 0xffff_ffff), Bits(i[0] >> 32)],
    );
    t.code(
        "mov.b64 into one of two",
        "mov.b64 {_, %x}, %a; mov.b64 {%y, _}, %a;",
        &["b64"],
        &["b32", "b32"],
        &all(&[&D]),
        |i| vec![Bits(i[0] >> 32), Bits(i[0] & 0xffff_ffff)],
    )
    .needs = (71, 50);
    t.code(
        "mov.b64 into four",
        "mov.b64 {%x, %y, %z, %w}, %a;",
        &["b64"],
        &["b16"; 4],
        &all(&[&D]),
        |i| (0..4).map(|k| Bits(i[0] >> (16 * k) & 0xffff)).collect(),
    );
    t.code(
        "mov.b32 swaps",
        "mov.b32 {%h1, %h2}, %a; mov.b32 {%h2, %h1}, %a; mov.b32 %x, {%h1, %h2};",
        &["b32"],
        &["b32"],
        &all(&[&HH]),
        |i| vec![Bits((i[0] << 16 | i[0] >> 16) & 0xffff_ffff)],
    );
    t.needs(83, 70);
    let code = ".reg .b128 %o; mov.b128 %o, {%a, %b}; mov.b128 {%y, %x}, %o;";
    t.code(
        "mov.b128 of two, into two",
        code,
        &["b64", "b64"],
        &["b64", "b64"],
        &all(&[&D, &D]),
        |i| vec![Bits(i[1]), Bits(i[0])],
    );
    t.needs(63, 50);
    t.code("mov of WARP_SZ and constants", "mov.u32 %x, WARP_SZ; mov.b64 %y, 0xffffffff80000000; mov.u16 %z, -2; mov.s32 %w, -2147483648;", &["b32"], &["b32", "b64", "b16", "b32"], &all(&[&[1, 2]]), |_| {
        vec![Bits(32), Bits(0xffff_ffff_8000_0000), Bits(0xfffe), Bits(0x8000_0000)]
    });
    t.code("mov.f32, mov.f64 of constants", "mov.f32 %x, 0f3DCCCCCD; mov.f64 %y, 0d3FB999999999999A; mov.f32 %z, 1.5; mov.f64 %w, -2.5;", &["b32"], &["b32", "b64", "b32", "b64"], &all(&[&[1]]), |_| {
        vec![Bits(0x3dcc_cccd), Bits(0x3fb9_9999_9999_999a), Bits(0x3fc0_0000), Bits(0xc004_0000_0000_0000)]
    });
}
