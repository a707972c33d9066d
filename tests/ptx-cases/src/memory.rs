//! Loads, stores, addresses, caches and asynchronous copies (PTX ISA 9.7.9).

use crate::form::{End, Table, Want::Bits};
use crate::values::{D, W, all, cut, signed};

/// `(type, bits, signed, registers it may be loaded into)`.
const TYPES: [(&str, u32, bool, &[&str]); 14] = [
    ("b8", 8, false, &["b16", "b32", "b64"]),
    ("u8", 8, false, &["b16", "b32", "b64"]),
    ("s8", 8, true, &["b16", "b32", "b64"]),
    ("b16", 16, false, &["b16", "b32", "b64"]),
    ("u16", 16, false, &["b16", "b32"]),
    ("s16", 16, true, &["b16", "b32", "b64"]),
    ("b32", 32, false, &["b32", "b64"]),
    ("u32", 32, false, &["b32", "b64"]),
    ("s32", 32, true, &["b32", "b64"]),
    ("f32", 32, false, &["f32"]),
    ("b64", 64, false, &["b64"]),
    ("u64", 64, false, &["b64"]),
    ("s64", 64, true, &["b64"]),
    ("f64", 64, false, &["f64"]),
];

fn size(reg: &str) -> u32 {
    match reg {
        "b16" => 16,
        "b32" | "f32" => 32,
        _ => 64,
    }
}

fn loaded(v: u64, bits: u32, is_signed: bool, reg: &str) -> u64 {
    if is_signed {
        cut(signed(v, bits), size(reg))
    } else {
        cut(v.into(), bits)
    }
}

/// Own 32 bytes of shared memory, with the address in `%r4`.
pub(crate) const SHARED: &str = ".shared .align 16 .b8 s#[2048]; mov.u32 %r3, %tid.x; shl.b32 %r3, %r3, 5; mov.u32 %r4, s#; add.u32 %r4, %r4, %r3;\n";
/// 32 bytes of local memory, with the address in `%q4`.
const LOCAL: &str = ".local .align 16 .b8 l#[32]; mov.u64 %q4, l#;\n";

/// `(space, how to get there, address operand)`.
const SPACES: [(&str, &str, &str); 6] = [
    (".global", "", "%in"),
    ("", "", "%in"),
    (".shared", SHARED, "%r4"),
    ("", "SHARED cvta.shared.u64 %q5, %q6;", "%q5"),
    (".local", LOCAL, "%q4"),
    ("", "LOCAL cvta.local.u64 %q5, %q4;", "%q5"),
];

fn setup(text: &str) -> String {
    if let Some(rest) = text.strip_prefix("SHARED") {
        format!("{SHARED} cvt.u64.u32 %q6, %r4; {rest}\n")
    } else if let Some(rest) = text.strip_prefix("LOCAL") {
        format!("{LOCAL} {rest}\n")
    } else {
        text.to_owned()
    }
}

fn place(index: usize) -> &'static str {
    [
        "",
        ", generic to global",
        "",
        ", generic to shared",
        "",
        ", generic to local",
    ][index]
}

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Memory");
    by_type(t);
    vectors(t);
    qualifiers(t);
    constants(t);
    addresses(t);
    caches(t);
    faults(t);
    t.needs(63, 50);
}

fn by_type(t: &mut Table) {
    let one = all(&[&D]);
    for (index, (space, to, address)) in SPACES.iter().enumerate() {
        let to = setup(to);
        let own = address != &"%in";
        for (ty, bits, is_signed, regs) in TYPES {
            for reg in regs {
                let fill = if own {
                    format!("st{space}.b64 [{address}], %a;")
                } else {
                    String::new()
                };
                let code = format!("{to}{fill} ld{space}.{ty} %x, [{address}];");
                t.code(
                    &format!("ld{space}.{ty}{} into {reg}", place(index)),
                    &code,
                    &["b64"],
                    &[reg],
                    &one,
                    |i| vec![Bits(loaded(i[0], bits, is_signed, reg))],
                )
                .alone = !own;
                // Only its own bytes change; the value may be in a wider register.
                let value = match *reg {
                    "b16" => "cvt.u16.u64 %h3, %b; ",
                    "b32" | "f32" => "cvt.u32.u64 %r9, %b; ",
                    _ => "",
                };
                let v = match *reg {
                    "b16" => "%h3",
                    "b32" | "f32" => "%r9",
                    _ => "%b",
                };
                let code = format!(
                    "{to}st{space}.b64 [{address}], %a; {value}st{space}.{ty} [{address}], {v}; ld{space}.b64 %x, [{address}];"
                );
                let mask = if bits == 64 {
                    u64::MAX
                } else {
                    (1 << bits) - 1
                };
                t.code(
                    &format!("st{space}.{ty}{} from {reg}", place(index)),
                    &code,
                    &["b64", "b64"],
                    &["b64"],
                    &all(&[&D, &D]),
                    |i| vec![Bits(i[0] & !mask | i[1] & mask)],
                )
                .alone = false;
            }
        }
    }
}

fn vectors(t: &mut Table) {
    let four = all(&[&D[7..9], &D[1..3], &D[9..], &D[5..8]]);
    for (index, (space, to, address)) in SPACES.iter().enumerate() {
        let to = setup(to);
        let own = address != &"%in";
        for (n, ty, bits, reg) in [
            (2u32, "u8", 8u32, "b16"),
            (4, "u8", 8, "b16"),
            (2, "s8", 8, "b16"),
            (2, "b16", 16, "b16"),
            (4, "u16", 16, "b16"),
            (4, "s16", 16, "b32"),
            (2, "b32", 32, "b32"),
            (4, "u32", 32, "b32"),
            (4, "f32", 32, "f32"),
            (2, "s32", 32, "b64"),
            (2, "b64", 64, "b64"),
            (2, "f64", 64, "f64"),
        ] {
            let names = ["%x", "%y", "%z", "%w"];
            let list = names[..n as usize].join(", ");
            let fill = if own {
                format!("st{space}.v2.b64 [{address}], {{%a, %b}};")
            } else {
                String::new()
            };
            let is_signed = ty.starts_with('s');
            let code = format!("{to}{fill} ld{space}.v{n}.{ty} {{{list}}}, [{address}];");
            t.code(
                &format!("ld{space}.v{n}.{ty}{} into {reg}", place(index)),
                &code,
                &["b64"; 4],
                &[reg; 4][..n as usize],
                &four,
                |i| {
                    (0..n)
                        .map(|k| {
                            let at = k * bits;
                            let v = i[(at / 64) as usize] >> (at % 64);
                            Bits(loaded(v, bits, is_signed, reg))
                        })
                        .collect()
                },
            )
            .alone = !own;
            if reg.starts_with('f') || (is_signed && bits < 32) {
                continue;
            }
            // The elements of c and e, stored over a and b.
            let (cast, v): (&str, Vec<String>) = match size(reg) {
                16 => (
                    "cvt.u16.u64 %h4, %c; cvt.u16.u64 %h5, %e;",
                    (0..n).map(|k| format!("%h{}", 4 + k % 2)).collect(),
                ),
                32 => (
                    "cvt.u32.u64 %r9, %c; cvt.u32.u64 %r10, %e;",
                    (0..n).map(|k| format!("%r{}", 9 + k % 2)).collect(),
                ),
                _ => (
                    "",
                    (0..n)
                        .map(|k| {
                            if k % 2 == 0 {
                                "%c".to_owned()
                            } else {
                                "%e".to_owned()
                            }
                        })
                        .collect(),
                ),
            };
            let code = format!(
                "{to}st{space}.v2.b64 [{address}], {{%a, %b}}; {cast} st{space}.v{n}.{ty} [{address}], {{{}}}; ld{space}.v2.b64 {{%x, %y}}, [{address}];",
                v.join(", ")
            );
            t.code(
                &format!("st{space}.v{n}.{ty}{} from {reg}", place(index)),
                &code,
                &["b64"; 4],
                &["b64"; 2],
                &four,
                |i| {
                    let mut all = u128::from(i[1]) << 64 | u128::from(i[0]);
                    for k in 0..n {
                        let mask = ((1u128 << bits) - 1) << (k * bits);
                        all = all & !mask
                            | (u128::from(i[2 + (k % 2) as usize]) << (k * bits)) & mask;
                    }
                    vec![Bits(all as u64), Bits((all >> 64) as u64)]
                },
            )
            .alone = false;
        }
    }
    // A register of the result may hold the address.
    t.code(
        "ld.global.v2.b64 over its address",
        "mov.b64 %q3, %in; ld.global.v2.b64 {%q3, %x}, [%q3]; mov.b64 %y, %q3;",
        &["b64"; 2],
        &["b64"; 2],
        &all(&[&D[..4], &D[4..8]]),
        |i| vec![Bits(i[1]), Bits(i[0])],
    );
    t.code("ld with an offset", "ld.global.u32 %x, [%in+4]; add.s64 %q3, %in, 8; ld.global.u32 %y, [%q3+-8]; ld.global.u16 %z, [%q3+-2];", &["b64"], &["b32", "b32", "b16"], &all(&[&D]), |i| {
        vec![Bits(i[0] >> 32), Bits(i[0] & 0xffff_ffff), Bits(i[0] >> 48)]
    });
    t.needs(83, 70);
    let code = ".reg .b128 %o; ld.global.b128 %o, [%in]; st.global.b128 [%in+16], %o; ld.global.v2.b64 {%x, %y}, [%in+16];";
    t.code(
        "ld.global.b128, st.global.b128",
        code,
        &["b64"; 4],
        &["b64"; 2],
        &four,
        |i| vec![Bits(i[0]), Bits(i[1])],
    )
    .alone = false;
    t.needs(63, 50);
}

fn qualifiers(t: &mut Table) {
    let loads: [(&str, u32, u32); 30] = [
        (".weak.global", 63, 70),
        (".volatile.global", 63, 50),
        (".volatile", 63, 50),
        (".relaxed.cta.global", 63, 70),
        (".relaxed.gpu.global", 63, 70),
        (".relaxed.sys.global", 63, 70),
        (".relaxed.cluster.global", 78, 90),
        (".relaxed.gpu", 63, 70),
        (".acquire.cta.global", 63, 70),
        (".acquire.gpu.global", 63, 70),
        (".acquire.sys.global", 63, 70),
        (".acquire.cluster.global", 78, 90),
        (".acquire.sys", 63, 70),
        (".mmio.relaxed.sys.global", 82, 70),
        (".global.ca", 63, 50),
        (".global.cg", 63, 50),
        (".global.cs", 63, 50),
        (".global.lu", 63, 50),
        (".global.cv", 63, 50),
        (".ca", 63, 50),
        (".cv", 63, 50),
        (".global.nc", 63, 50),
        (".global.ca.nc", 63, 50),
        (".global.cg.nc", 63, 50),
        (".global.cs.nc", 63, 50),
        (".global.nc.L1::no_allocate", 74, 70),
        (".global.L1::evict_last", 74, 70),
        (".global.L1::evict_first.L2::64B", 74, 75),
        (".global.L2::128B", 74, 75),
        (".global.L2::256B", 74, 80),
    ];
    for (q, version, sm) in loads {
        t.needs(version, sm);
        t.bits(&format!("ld{q}.u32"), &["b64"], "b32", &all(&[&D]), |i| {
            i[0] & 0xffff_ffff
        })
        .code = format!("ld{q}.u32 %x, [%in];");
        if q.contains("mmio") {
            continue;
        }
        t.bits(&format!("ld{q}.b64"), &["b64"], "b64", &all(&[&D]), |i| {
            i[0]
        })
        .code = format!("ld{q}.b64 %x, [%in];");
        if !q.contains("relaxed") && !q.contains("acquire") && !q.contains("volatile") {
            t.code(
                &format!("ld{q}.v4.u32"),
                &format!("ld{q}.v4.u32 {{%x, %y, %z, %w}}, [%in];"),
                &["b64"; 2],
                &["b32"; 4],
                &all(&[&D, &D[..3]]),
                |i| {
                    [
                        i[0] & 0xffff_ffff,
                        i[0] >> 32,
                        i[1] & 0xffff_ffff,
                        i[1] >> 32,
                    ]
                    .map(Bits)
                    .to_vec()
                },
            );
        }
    }
    t.needs(63, 50);
    for q in ["", ".global"] {
        t.bits(&format!("ldu{q}.u32"), &["b64"], "b32", &all(&[&D]), |i| {
            i[0] & 0xffff_ffff
        })
        .code = format!("ldu{q}.u32 %x, [%in];");
        t.code(
            &format!("ldu{q}.v2.b64"),
            &format!("ldu{q}.v2.b64 {{%x, %y}}, [%in];"),
            &["b64"; 2],
            &["b64"; 2],
            &all(&[&D, &D]),
            |i| vec![Bits(i[0]), Bits(i[1])],
        );
    }
    let stores: [(&str, u32, u32); 19] = [
        (".weak.global", 63, 70),
        (".volatile.global", 63, 50),
        (".volatile", 63, 50),
        (".relaxed.cta.global", 63, 70),
        (".relaxed.gpu.global", 63, 70),
        (".relaxed.sys.global", 63, 70),
        (".relaxed.cluster.global", 78, 90),
        (".release.cta.global", 63, 70),
        (".release.gpu.global", 63, 70),
        (".release.sys.global", 63, 70),
        (".release.cluster.global", 78, 90),
        (".release.gpu", 63, 70),
        (".mmio.relaxed.sys.global", 82, 70),
        (".global.wb", 63, 50),
        (".global.cg", 63, 50),
        (".global.cs", 63, 50),
        (".global.wt", 63, 50),
        (".global.L1::no_allocate", 74, 70),
        (".wb", 63, 50),
    ];
    for (q, version, sm) in stores {
        t.needs(version, sm);
        let code = format!("cvt.u32.u64 %r3, %b; st{q}.u32 [%in], %r3; ld.global.b64 %x, [%in];");
        t.bits(
            &format!("st{q}.u32"),
            &["b64", "b64"],
            "b64",
            &all(&[&D, &D]),
            |i| i[0] >> 32 << 32 | i[1] & 0xffff_ffff,
        )
        .code = code;
        if let Some(f) = t.forms.last_mut() {
            f.alone = false;
        }
    }
    for (q, version, sm) in [
        (".shared", 63, 50),
        (".shared::cta", 78, 70),
        (".volatile.shared", 63, 50),
        (".relaxed.cta.shared", 63, 70),
    ] {
        t.needs(version, sm);
        let load = if q == ".relaxed.cta.shared" {
            ".acquire.cta.shared"
        } else {
            q
        };
        t.bits(
            &format!("ld{load}.u32, st{q}.u32"),
            &["b32"],
            "b32",
            &all(&[&W]),
            |i| i[0],
        )
        .code = format!("{SHARED} st{q}.u32 [%r4], %a; ld{load}.u32 %x, [%r4];");
        if let Some(f) = t.forms.last_mut() {
            f.alone = false;
        }
    }
    t.needs(74, 80);
    let policy = "createpolicy.fractional.L2::evict_last.L2::evict_unchanged.b64 %q3, 0.5;";
    t.bits(
        "ld.global.L2::cache_hint.u32",
        &["b64"],
        "b32",
        &all(&[&D]),
        |i| i[0] & 0xffff_ffff,
    )
    .code = format!("{policy} ld.global.L2::cache_hint.u32 %x, [%in], %q3;");
    t.bits(
        "ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.b64",
        &["b64"],
        "b64",
        &all(&[&D]),
        |i| i[0],
    )
    .code = format!(
        "{policy} ld.global.nc.L1::no_allocate.L2::cache_hint.L2::128B.b64 %x, [%in], %q3;"
    );
    t.bits(
        "st.global.L2::cache_hint.u32",
        &["b32", "b32"],
        "b32",
        &all(&[&W, &W]),
        |i| i[1],
    )
    .code =
        format!("{policy} st.global.L2::cache_hint.u32 [%in], %b, %q3; ld.global.u32 %x, [%in];");
    if let Some(f) = t.forms.last_mut() {
        f.alone = false;
    }
    for code in [
        "createpolicy.fractional.L2::evict_first.b64 %q3;",
        "createpolicy.fractional.L2::evict_normal.L2::evict_first.b64 %q3, 1.0;",
        "createpolicy.range.global.L2::evict_last.L2::evict_first.b64 %q3, [%in], 64, 128;",
        "createpolicy.cvt.L2.b64 %q3, 0x10000000;",
    ] {
        // What the policy is made of is not said; that a load takes it is.
        let opcode = code.split(' ').next().unwrap_or_default();
        t.bits(opcode, &["b32"], "b32", &all(&[&W[..3]]), |i| i[0])
            .code = format!("{code} ld.global.L2::cache_hint.u32 %x, [%in], %q3;");
    }
    t.needs(63, 50);
}

fn constants(t: &mut Table) {
    let module = ".const .align 8 .b8 k#[24] = {1, 2, 3, 4, 0xff, 0x80, 7, 8, 9};\n.const .align 8 .f64 d# = 0d3FF8000000000000;\n\
                  .global .align 4 .u32 g#[4] = {5, 6, 0xffffffff};\n.global .align 8 .u64 p#[2] = {g#, g#+8};\n.global .align 8 .u64 n#[1] = {generic(g#)};\n";
    let code = "ld.const.u32 %x, [k#]; ld.const.s8 %y, [k#+5]; ld.const.b64 %z, [k#+8]; ld.const.f64 %w, [d#];";
    t.code(
        "ld.const",
        code,
        &["b32"],
        &["b32", "b32", "b64", "b64"],
        &all(&[&[0]]),
        |_| {
            vec![
                Bits(0x0403_0201),
                Bits(0xffff_ff80),
                Bits(9),
                Bits(0x3ff8_0000_0000_0000),
            ]
        },
    )
    .module = module.into();
    let code = "mov.u64 %q3, k#; cvt.u64.u32 %q4, %a; add.s64 %q3, %q3, %q4; ld.const.u8 %x, [%q3]; cvta.const.u64 %q3, %q3; ld.u8 %y, [%q3];";
    t.code(
        "ld.const at an address, and generic",
        code,
        &["b32"],
        &["b16", "b16"],
        &all(&[&[0, 1, 4, 5, 8, 9]]),
        |i| {
            let bytes = [1, 2, 3, 4, 0xff, 0x80, 7, 8, 9, 0];
            vec![Bits(bytes[i[0] as usize]); 2]
        },
    )
    .module = module.into();
    let code = "ld.global.u32 %x, [g#+4]; ld.global.u64 %q3, [p#+8]; ld.global.u32 %y, [%q3]; ld.global.u64 %q3, [n#]; ld.u32 %z, [%q3]; ld.global.u32 %w, [g#+12];";
    t.code(
        "ld.global of initialised variables",
        code,
        &["b32"],
        &["b32"; 4],
        &all(&[&[0]]),
        |_| [6, 0xffff_ffff, 5, 0].map(Bits).to_vec(),
    )
    .module = module.into();
    t.code("ld.param", "ld.param.u32 %x, [pn]; ld.param.u16 %y, [pn]; ld.param.u8 %z, [pn]; ld.param.u16 %w, [pn+2];", &["b32"], &["b32", "b16", "b16", "b16"], &all(&[&[0, 1, 2]]), |_| {
        [3, 3, 3, 0].map(Bits).to_vec()
    });
    t.needs(83, 70);
    t.code(
        "ld.param::entry",
        "ld.param::entry.u32 %x, [pn]; ld.param::entry.u16 %y, [pn+2];",
        &["b32"],
        &["b32", "b16"],
        &all(&[&[0, 1]]),
        |_| vec![Bits(2), Bits(0)],
    );
    t.needs(63, 50);
}

fn addresses(t: &mut Table) {
    let one = all(&[&D[..2]]);
    let places = [
        ("global", "mov.u64 %q3, %in;", "%in"),
        ("shared", "SHARED cvta.shared.u64 %q3, %q6;", "%q6"),
        ("local", "LOCAL cvta.local.u64 %q3, %q4;", "%q4"),
    ];
    for (space, to, own) in places {
        let to = setup(to);
        let kinds = ["global", "shared", "local", "const"];
        let mut code = format!("{to} mov.u64 %q9, %q3;");
        for (k, name) in kinds.iter().enumerate() {
            let out = ["%x", "%y", "%z", "%w"][k];
            code += &format!(" isspacep.{name} %p1, %q9; selp.u32 {out}, 1, 0, %p1;");
        }
        t.code(
            &format!("isspacep of {space}"),
            &code,
            &["b64"],
            &["b32"; 4],
            &one,
            |_| kinds.map(|k| Bits((k == space).into())).to_vec(),
        )
        .alone = false;
        // There and back.
        let code = format!(
            "{to} cvta.to.{space}.u64 %q8, %q3; sub.s64 %x, %q8, {own}; cvta.{space}.u64 %q7, %q8; sub.s64 %y, %q7, %q3;"
        );
        t.code(
            &format!("cvta.{space}.u64, cvta.to.{space}.u64"),
            &code,
            &["b64"],
            &["b64", "b64"],
            &one,
            |_| vec![Bits(0), Bits(0)],
        )
        .alone = false;
    }
    let module = ".const .align 8 .u64 k# = 77;\n";
    let code = "mov.u64 %q3, k#; cvta.const.u64 %q4, %q3; ld.u64 %x, [%q4]; isspacep.const %p1, %q4; selp.u32 %y, 1, 0, %p1; cvta.to.const.u64 %q5, %q4; ld.const.u64 %z, [%q5];";
    t.code(
        "cvta.const.u64, cvta.to.const.u64, isspacep.const",
        code,
        &["b64"],
        &["b64", "b32", "b64"],
        &one,
        |_| vec![Bits(77), Bits(1), Bits(77)],
    )
    .module = module.into();
    t.needs(77, 70);
    let code = "mov.b64 %q3, po; cvta.param.u64 %q4, %q3; isspacep.param %p1, %q4; selp.u32 %x, 1, 0, %p1; ld.u64 %q5, [%q4]; ld.param.u64 %q6, [po]; sub.s64 %y, %q5, %q6; cvta.to.param.u64 %q7, %q4; ld.param.u64 %q8, [%q7]; sub.s64 %z, %q8, %q6;";
    t.code(
        "cvta.param.u64, cvta.to.param.u64, isspacep.param",
        code,
        &["b64"],
        &["b32", "b64", "b64"],
        &one,
        |_| vec![Bits(1), Bits(0), Bits(0)],
    );
    t.needs(78, 90);
    let code = format!(
        "{SHARED} st.shared.u32 [%r4], %a; mapa.shared::cluster.u32 %r5, %r4, 0; ld.shared::cluster.u32 %x, [%r5]; getctarank.shared::cluster.u32 %y, %r5; cvt.u64.u32 %q3, %r4; cvta.shared.u64 %q3, %q3; mapa.u64 %q4, %q3, 0; ld.u32 %z, [%q4]; isspacep.shared::cluster %p1, %q4; selp.u32 %w, 1, 0, %p1;"
    );
    t.code(
        "mapa, getctarank, ld.shared::cluster, isspacep.shared::cluster",
        &code,
        &["b32"],
        &["b32"; 4],
        &all(&[&W]),
        |i| vec![Bits(i[0]), Bits(0), Bits(i[0]), Bits(1)],
    )
    .alone = false;
    t.needs(78, 70);
    let code = format!(
        "{SHARED} cvt.u64.u32 %q3, %r4; cvta.shared::cta.u64 %q4, %q3; isspacep.shared::cta %p1, %q4; selp.u32 %x, 1, 0, %p1; cvta.to.shared::cta.u64 %q5, %q4; sub.s64 %y, %q5, %q3;"
    );
    t.code(
        "isspacep.shared::cta, cvta.shared::cta.u64, cvta.to.shared::cta.u64",
        &code,
        &["b32"],
        &["b32", "b64"],
        &all(&[&[0, 1]]),
        |_| vec![Bits(1), Bits(0)],
    )
    .alone = false;
    t.needs(63, 50);
}

/// Hints, which change no value.
fn caches(t: &mut Table) {
    let rows: [(&str, u32, u32); 11] = [
        ("prefetch.global.L1 [%in];", 63, 50),
        ("prefetch.global.L2 [%in];", 63, 50),
        ("prefetch.L1 [%in];", 63, 50),
        ("prefetch.L2 [%in];", 63, 50),
        ("prefetchu.L1 [%in];", 63, 50),
        ("prefetch.global.L2::evict_last [%in];", 74, 80),
        ("prefetch.global.L2::evict_normal [%in];", 74, 80),
        ("applypriority.global.L2::evict_normal [g#], 128;", 74, 80),
        ("applypriority.L2::evict_normal [%q3], 128;", 74, 80),
        ("discard.global.L2 [g#], 128;", 74, 80),
        ("discard.L2 [%q3], 128;", 74, 80),
    ];
    for (code, version, sm) in rows {
        t.needs(version, sm);
        let opcode = code.split(' ').next().unwrap_or_default();
        t.bits(opcode, &["b64"], "b64", &all(&[&D]), |i| i[0]).code =
            format!("mov.u64 %q3, g#; cvta.global.u64 %q3, %q3; {code} ld.global.u64 %x, [%in];");
        if let Some(f) = t.forms.last_mut() {
            f.module = ".global .align 128 .b8 g#[128];\n".into();
            f.alone = false;
        }
    }
    t.needs(63, 50);
}

fn faults(t: &mut Table) {
    t.ends(
        "ld.global at no allocation",
        "mov.b64 %q3, 64; ld.global.u32 %r3, [%q3]; st.global.u32 [%out], %r3; mov.b64 %x, 0;",
        End::IllegalAddress,
    );
    t.ends(
        "st.global at no allocation",
        "mov.b64 %q3, 0x7ff000000000; st.global.u32 [%q3], %r3; mov.b64 %x, 0;",
        End::IllegalAddress,
    );
    t.ends(
        "ld.global.u32, misaligned",
        "ld.global.u32 %r3, [%in+2]; st.global.u32 [%out], %r3; mov.b64 %x, 0;",
        End::MisalignedAddress,
    );
    t.ends(
        "st.global.v4.u32, misaligned",
        "add.s64 %q3, %out, 4; st.global.v4.u32 [%q3], {%r1, %r1, %r1, %r1}; mov.b64 %x, 0;",
        End::MisalignedAddress,
    );
    t.ends(
        "atom.global.add.u64, misaligned",
        "atom.global.add.u64 %q3, [%in+4], 1; mov.b64 %x, %q3;",
        End::MisalignedAddress,
    );
    t.ends(
        "ld.shared.u64, misaligned",
        &format!("{SHARED} ld.shared.u64 %x, [%r4+4];"),
        End::MisalignedAddress,
    );
}
