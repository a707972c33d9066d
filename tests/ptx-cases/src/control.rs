//! Branches, calls, ends and the stack (PTX ISA 9.7.12, 9.7.10 `alloca`), and the rest of 9.7.19.

use crate::form::{End, Table, Want::Bits};
use crate::values::{D, W, all, cut};

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Control");
    branches(t);
    calls(t);
    registers(t);
    stack(t);
    others(t);
}

fn branches(t: &mut Table) {
    let v: Vec<u64> = (0..64).collect();
    let one = all(&[&v]);
    for uni in ["", ".uni"] {
        let code =
            format!("mov.u32 %x, 1; bra{uni} OVER; mov.u32 %x, 2; OVER: add.u32 %x, %x, %a;");
        t.code(&format!("bra{uni}"), &code, &["b32"], &["b32"], &one, |i| {
            vec![Bits(i[0] + 1)]
        });
    }
    let code = "and.b32 %r5, %a, 1; setp.ne.u32 %p1, %r5, 0; mov.u32 %x, 0; @%p1 bra ODD; add.u32 %x, %x, 10; bra BOTH; ODD: add.u32 %x, %x, 20; BOTH: add.u32 %x, %x, 1; @!%p1 add.u32 %x, %x, 100;";
    t.code(
        "bra, guarded, and guards",
        code,
        &["b32"],
        &["b32"],
        &one,
        |i| vec![Bits(if i[0] & 1 != 0 { 21 } else { 111 })],
    );
    let code = "mov.u32 %x, 0; mov.u32 %r5, %a; LOOP: setp.le.u32 %p1, %r5, 1; @%p1 bra END; and.b32 %r6, %r5, 1; setp.eq.u32 %p2, %r6, 0; @%p2 bra EVEN; mad.lo.u32 %r5, %r5, 3, 1; bra NEXT; EVEN: shr.u32 %r5, %r5, 1; NEXT: add.u32 %x, %x, 1; bra LOOP; END:";
    t.code(
        "bra, a loop that ends lane by lane",
        code,
        &["b32"],
        &["b32"],
        &one,
        |i| {
            let (mut v, mut n) = (i[0], 0);
            while v > 1 {
                v = if v & 1 == 0 { v / 2 } else { 3 * v + 1 };
                n += 1;
            }
            vec![Bits(n)]
        },
    );
    for uni in ["", ".uni"] {
        // Uniform only if all lanes go the same way.
        let index = if uni.is_empty() {
            "and.b32 %r5, %a, 3;"
        } else {
            "mov.u32 %r5, 2;"
        };
        let code = format!(
            "{index} TABLE: .branchtargets T0, T1, T2, T3; brx.idx{uni} %r5, TABLE; T0: mov.u32 %x, 10; bra E; T1: mov.u32 %x, 11; bra E; T2: mov.u32 %x, 12; bra E; T3: mov.u32 %x, 13; E:"
        );
        t.code(
            &format!("brx.idx{uni}"),
            &code,
            &["b32"],
            &["b32"],
            &one,
            |i| vec![Bits(10 + if uni.is_empty() { i[0] & 3 } else { 2 })],
        );
    }
    // What ended stores nothing more.
    let code = "mov.u32 %x, 5; st.global.u32 [%out], %x; setp.lt.u32 %p1, %a, 20; @%p1 exit; mov.u32 %x, 6; setp.lt.u32 %p1, %a, 40; st.global.u32 [%out], %x; @%p1 ret; mov.u32 %x, 7;";
    t.code("exit, ret, guarded", code, &["b32"], &["b32"], &one, |i| {
        vec![Bits(if i[0] < 20 {
            5
        } else if i[0] < 40 {
            6
        } else {
            7
        })]
    });
    t.code(
        "ret.uni, exit at the end",
        "setp.eq.u32 %p1, 0, 1; @%p1 ret.uni; mov.u32 %x, %a; st.global.u32 [%out], %x; exit;",
        &["b32"],
        &["b32"],
        &one,
        |i| vec![Bits(i[0])],
    );
    t.ends("trap", "mov.b64 %x, 0; trap;", End::Trap);
}

const FUNCTIONS: &str = "\
.func (.param .b32 r) f0#(.param .b32 a, .param .b32 b)\n{\n.reg .b32 %m<4>; ld.param.b32 %m1, [a]; ld.param.b32 %m2, [b]; mad.lo.u32 %m3, %m1, 3, %m2; st.param.b32 [r], %m3; ret;\n}\n\
.func (.param .b32 r) f1#(.param .b32 a, .param .b32 b)\n{\n.reg .b32 %m<4>; ld.param.b32 %m1, [a]; ld.param.b32 %m2, [b]; sub.u32 %m3, %m1, %m2; st.param.b32 [r], %m3; ret;\n}\n\
.func (.param .b64 r) sum#(.param .b32 n)\n{\n.reg .pred %p; .reg .b32 %m<3>; .reg .b64 %d<4>;\n\
 ld.param.b32 %m1, [n]; setp.eq.u32 %p, %m1, 0; mov.u64 %d1, 0; @%p bra OUT; sub.u32 %m2, %m1, 1; cvt.u64.u32 %d2, %m1;\n\
 { .param .b32 p; .param .b64 q; st.param.b32 [p], %m2; call.uni (q), sum#, (p); ld.param.b64 %d1, [q]; }\n\
 add.s64 %d1, %d1, %d2; OUT: st.param.b64 [r], %d1; ret;\n}\n\
.func (.param .align 8 .b8 r[16]) swap#(.param .align 8 .b8 s[16])\n{\n.reg .b64 %d<3>; .reg .b32 %m<3>; .reg .b16 %h; ld.param.b64 %d1, [s]; ld.param.v2.b32 {%m1, %m2}, [s+8]; ld.param.u8 %h, [s+3]; st.param.v2.b32 [r], {%m1, %m2}; st.param.b64 [r+8], %d1; st.param.b8 [r+9], %h; ret;\n}\n\
.func none#(.param .b64 p)\n{\n.reg .b64 %d1; ld.param.b64 %d1, [p]; st.global.u32 [%d1], 99; ret;\n}\n\
.func (.param .b32 r) byte#(.param .align 4 .b8 s[8], .param .b32 n)\n{\n.reg .b64 %d<4>; .reg .b32 %m<3>; ld.param.b32 %m1, [n]; cvt.u64.u32 %d1, %m1; mov.b64 %d2, s; add.s64 %d2, %d2, %d1; ld.local.u8 %m2, [%d2]; st.param.b32 [r], %m2; ret;\n}\n";

/// Functions whose parameters are registers, as the ISA had them before `.param` (PTX ISA, "Kernel and Function Directives").
const REGISTERS: &str = "\
.func (.reg .u32 r) one#(.reg .u32 a, .reg .u32 b)\n{\n.reg .pred %p; add.u32 r, a, 1; setp.lt.u32 %p, a, b; @%p ret; add.u32 r, r, b; add.u32 a, a, 1;\n}\n\
.func (.reg .b64 r) wide#(.reg .u64 a, .reg .u32 h, .reg .f64 d)\n{\n.reg .u64 %w; mov.b64 %w, d; cvt.u64.u32 r, h; add.u64 r, r, a; xor.b64 r, r, %w; ret;\n}\n\
.func keep#(.reg .u64 p, .reg .f32 v)\n{\nst.global.f32 [p], v; bra AGAIN; AGAIN: ret;\n}\n";

fn registers(t: &mut Table) {
    t.needs(60, 50);
    let two = all(&[&W, &W]);
    t.code(
        "call of a function with .reg parameters",
        "call (%x), one#, (%a, %b);",
        &["b32", "b32"],
        &["b32"],
        &two,
        |i| {
            let more = if i[0] < i[1] { 0 } else { i[1] };
            vec![Bits(cut(i128::from(i[0]) + 1 + i128::from(more), 32))]
        },
    )
    .module = REGISTERS.into();
    let three = all(&[&D, &[0, 1, 0xffff], &[0, 0x3ff0_0000_0000_0000]]);
    t.code(
        "call of a function with .reg parameters of 32 and 64 bits",
        ".reg .f64 %fd; mov.b64 %fd, %c; call.uni (%x), wide#, (%a, %b, %fd);",
        &["b64", "b32", "b64"],
        &["b64"],
        &three,
        |i| vec![Bits(i[0].wrapping_add(i[1]) ^ i[2])],
    )
    .module = REGISTERS.into();
    t.code(
        "call of a function with .reg parameters and no result",
        "mov.b32 %x, 0; call keep#, (%out, %a); ld.global.b32 %x, [%out];",
        &["f32"],
        &["b32"],
        &all(&[&W]),
        |i| vec![Bits(i[0])],
    )
    .module = REGISTERS.into();
    t.needs(63, 50);
}

fn calls(t: &mut Table) {
    let two = all(&[&W, &W]);
    let mut add = |opcode: &str,
                   code: &str,
                   inputs: &[&'static str],
                   outputs: &[&'static str],
                   cases: &[Vec<u64>],
                   want: &dyn Fn(&[u64]) -> Vec<u64>| {
        t.code(opcode, code, inputs, outputs, cases, |i| {
            want(i).into_iter().map(Bits).collect()
        })
        .module = FUNCTIONS.into();
    };
    let first = |i: &[u64]| cut(i128::from(3 * i[0] + i[1]), 32);
    for uni in ["", ".uni"] {
        let code = format!(
            "{{ .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %a; st.param.b32 [p1], %b; call{uni} (q), f0#, (p0, p1); ld.param.b32 %x, [q]; }}"
        );
        add(
            &format!("call{uni}"),
            &code,
            &["b32", "b32"],
            &["b32"],
            &two,
            &|i| vec![first(i)],
        );
    }
    add(
        "call.uni with .param::func",
        "{ .param .b32 p0; .param .b32 p1; .param .b32 q; st.param::func.b32 [p0], %a; st.param::func.b32 [p1], %b; call.uni (q), f0#, (p0, p1); ld.param::func.b32 %x, [q]; }",
        &["b32", "b32"],
        &["b32"],
        &two,
        &|i| vec![first(i)],
    );
    add(
        "call, guarded",
        "mov.u32 %x, 1; setp.lt.u32 %p1, %a, %b; { .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %a; st.param.b32 [p1], %b; @%p1 bra DO; bra NOT; DO: call (q), f1#, (p0, p1); ld.param.b32 %x, [q]; NOT: }",
        &["b32", "b32"],
        &["b32"],
        &two,
        &|i| {
            vec![if i[0] < i[1] {
                cut(i128::from(i[0]) - i128::from(i[1]), 32)
            } else {
                1
            }]
        },
    );
    add(
        "call through a pointer, with a prototype",
        "mov.u64 %q3, f0#; mov.u64 %q4, f1#; and.b32 %r5, %a, 1; setp.ne.u32 %p1, %r5, 0; selp.b64 %q5, %q3, %q4, %p1; { .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %a; st.param.b32 [p1], %b; PR: .callprototype (.param .b32 _) _ (.param .b32 _, .param .b32 _); call (q), %q5, (p0, p1), PR; ld.param.b32 %x, [q]; }",
        &["b32", "b32"],
        &["b32"],
        &two,
        &|i| {
            vec![if i[0] & 1 != 0 {
                first(i)
            } else {
                cut(i128::from(i[0]) - i128::from(i[1]), 32)
            }]
        },
    );
    add(
        "call through a pointer, with targets",
        "mov.u64 %q3, f0#; mov.u64 %q4, f1#; setp.lt.u32 %p1, %a, %b; selp.b64 %q5, %q3, %q4, %p1; { .param .b32 p0; .param .b32 p1; .param .b32 q; st.param.b32 [p0], %a; st.param.b32 [p1], %b; TG: .calltargets f0#, f1#; call (q), %q5, (p0, p1), TG; ld.param.b32 %x, [q]; }",
        &["b32", "b32"],
        &["b32"],
        &two,
        &|i| {
            vec![if i[0] < i[1] {
                first(i)
            } else {
                cut(i128::from(i[0]) - i128::from(i[1]), 32)
            }]
        },
    );
    if let Some(f) = t
        .forms
        .iter_mut()
        .find(|f| f.opcode.ends_with(".param::func"))
    {
        f.needs = (83, 70);
    }
    let mut add = |opcode: &str,
                   code: &str,
                   inputs: &[&'static str],
                   outputs: &[&'static str],
                   cases: &[Vec<u64>],
                   want: &dyn Fn(&[u64]) -> Vec<u64>| {
        t.code(opcode, code, inputs, outputs, cases, |i| {
            want(i).into_iter().map(Bits).collect()
        })
        .module = FUNCTIONS.into();
    };
    let depth: Vec<u64> = vec![0, 1, 2, 7, 20, 33];
    add(
        "call, recursive",
        "{ .param .b32 p; .param .b64 q; st.param.b32 [p], %a; call (q), sum#, (p); ld.param.b64 %x, [q]; }",
        &["b32"],
        &["b64"],
        &all(&[&depth]),
        &|i| vec![i[0] * (i[0] + 1) / 2],
    );
    add(
        "call with structures",
        "{ .param .align 8 .b8 p[16]; .param .align 8 .b8 q[16]; st.param.b64 [p], %a; st.param.b64 [p+8], %b; call (q), swap#, (p); ld.param.b64 %x, [q]; ld.param.b64 %y, [q+8]; }",
        &["b64", "b64"],
        &["b64", "b64"],
        &all(&[&D, &D]),
        &|i| vec![i[1], i[0] & !0xff00 | (i[0] >> 24 & 0xff) << 8],
    );
    add(
        "call without a result",
        "{ .param .b64 p; st.param.b64 [p], %out; call none#, (p); } ld.global.u32 %x, [%out];",
        &["b32"],
        &["b32"],
        &all(&[&W]),
        &|_| vec![99],
    );
    add(
        "mov.b64 of the address of a parameter of a function",
        "{ .param .align 4 .b8 p[8]; .param .b32 n; .param .b32 q; st.param.b32 [p], %a; st.param.b32 [p+4], 0x04030201; st.param.b32 [n], %b; call (q), byte#, (p, n); ld.param.b32 %x, [q]; }",
        &["b32", "b32"],
        &["b32"],
        &all(&[&W, &[0, 1, 2, 3, 4, 5, 6, 7]]),
        &|i| vec![(i[0] | 0x0403_0201 << 32) >> (8 * i[1]) & 0xff],
    );
}

fn stack(t: &mut Table) {
    t.needs(73, 52);
    let v: Vec<u64> = (0..40).collect();
    // Each thread takes room for its own number of words and reads them back.
    let code = "add.u32 %r5, %a, 1; mul.wide.u32 %q3, %r5, 4; stacksave.u64 %q9; alloca.u64 %q4, %q3, 8; cvta.local.u64 %q5, %q4; mov.u32 %r6, 0; FILL: mul.wide.u32 %q6, %r6, 4; add.s64 %q7, %q4, %q6; mad.lo.u32 %r7, %r6, %r6, %a; st.local.u32 [%q7], %r7; add.u32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, %r5; @%p1 bra FILL; mov.u32 %x, 0; mov.u32 %r6, 0; SUM: mul.wide.u32 %q6, %r6, 4; add.s64 %q7, %q5, %q6; ld.u32 %r7, [%q7]; add.u32 %x, %x, %r7; add.u32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, %r5; @%p1 bra SUM; and.b64 %q8, %q4, 7; cvt.u32.u64 %y, %q8; stackrestore.u64 %q9; stacksave.u64 %q8; sub.s64 %z, %q8, %q9;";
    t.code(
        "alloca.u64, stacksave.u64, stackrestore.u64",
        code,
        &["b32"],
        &["b32", "b32", "b64"],
        &all(&[&v]),
        |i| {
            let n = i[0] + 1;
            vec![Bits((0..n).map(|k| k * k + i[0]).sum()), Bits(0), Bits(0)]
        },
    );
    let code = "mov.u64 %q3, 24; mov.u32 %x, 0; mov.u32 %r6, 0; LOOP: stacksave.u64 %q9; alloca.u64 %q4, %q3; st.local.u32 [%q4+20], %r6; alloca.u64 %q5, %q3, 16; st.local.u32 [%q5+20], 7; ld.local.u32 %r7, [%q4+20]; add.u32 %x, %x, %r7; stackrestore.u64 %q9; add.u32 %r6, %r6, 1; setp.lt.u32 %p1, %r6, 10000; @%p1 bra LOOP;";
    t.code(
        "alloca.u64 in a loop, given back",
        code,
        &["b32"],
        &["b32"],
        &all(&[&[0, 1]]),
        |_| vec![Bits(49_995_000)],
    );
    t.needs(63, 50);
}

fn others(t: &mut Table) {
    let one = all(&[&W]);
    let rows: [(&str, u32, u32); 9] = [
        ("pmevent 1;", 63, 50),
        ("pmevent.mask 3;", 63, 50),
        ("nanosleep.u32 20;", 63, 70),
        ("nanosleep.u32 %r1;", 63, 70),
        ("griddepcontrol.launch_dependents;", 78, 90),
        ("griddepcontrol.wait;", 78, 90),
        ("setp.eq.u32 %p5, 0, 1; @%p5 brkpt;", 63, 50),
        ("setp.eq.u32 %p5, 0, 1; @%p5 trap;", 63, 50),
        ("setmaxnreg.dec.sync.aligned.u32 64;", 80, 901),
    ];
    for (code, version, sm) in rows {
        t.needs(version, sm);
        let opcode = code
            .rsplit("; @%p5 ")
            .next()
            .unwrap_or(code)
            .split([' ', ';'])
            .next()
            .unwrap_or_default();
        let opcode = if code.contains("@%p5") {
            format!("{opcode}, not reached")
        } else {
            opcode.to_owned()
        };
        t.bits(&opcode, &["b32"], "b32", &one, |i| i[0]).code = format!("{code} mov.u32 %x, %a;");
    }
    t.needs(63, 50);
}
