//! Special registers (PTX ISA 10).

use crate::form::{Table, Want, Want::Bits, Want::Range};

/// What a thread of a block must see.
type Value = Box<dyn Fn(usize, usize) -> Want>;

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Special registers");
    let lanes: Vec<Vec<Vec<u64>>> = vec![vec![vec![0]; 96]; 3];
    let some = Range(0, u64::MAX);
    let narrow = Range(0, 0xffff_ffff);
    // Of a grid of three blocks of 96 threads.
    let rows: Vec<(&str, &str, Value)> = vec![
        ("%tid.x", "u32", Box::new(|_, l| Bits(l as u64))),
        ("%tid.y", "u32", Box::new(|_, _| Bits(0))),
        ("%tid.z", "u32", Box::new(|_, _| Bits(0))),
        ("%ntid.x", "u32", Box::new(|_, _| Bits(96))),
        ("%ntid.y", "u32", Box::new(|_, _| Bits(1))),
        ("%ntid.z", "u32", Box::new(|_, _| Bits(1))),
        ("%ctaid.x", "u32", Box::new(|b, _| Bits(b as u64))),
        ("%ctaid.y", "u32", Box::new(|_, _| Bits(0))),
        ("%ctaid.z", "u32", Box::new(|_, _| Bits(0))),
        ("%nctaid.x", "u32", Box::new(|_, _| Bits(3))),
        ("%nctaid.y", "u32", Box::new(|_, _| Bits(1))),
        ("%nctaid.z", "u32", Box::new(|_, _| Bits(1))),
        ("%laneid", "u32", Box::new(|_, l| Bits(l as u64 % 32))),
        ("%lanemask_eq", "u32", Box::new(|_, l| Bits(1 << (l % 32)))),
        (
            "%lanemask_le",
            "u32",
            Box::new(|_, l| Bits((2 << (l % 32)) - 1)),
        ),
        (
            "%lanemask_lt",
            "u32",
            Box::new(|_, l| Bits((1 << (l % 32)) - 1)),
        ),
        (
            "%lanemask_ge",
            "u32",
            Box::new(|_, l| Bits(0xffff_ffff & !((1u64 << (l % 32)) - 1))),
        ),
        (
            "%lanemask_gt",
            "u32",
            Box::new(|_, l| Bits(0xffff_ffff & !((2u64 << (l % 32)) - 1))),
        ),
        // Where a warp and a block run is up to the machine.
        ("%warpid", "u32", Box::new(|_, _| Range(0, 63))),
        ("%nwarpid", "u32", Box::new(|_, _| Range(3, 64))),
        ("%smid", "u32", Box::new(|_, _| Range(0, 1023))),
        ("%nsmid", "u32", Box::new(|_, _| Range(1, 1024))),
        (
            "%gridid",
            "u64",
            Box::new({
                let w = some.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%clock",
            "u32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%clock_hi",
            "u32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%clock64",
            "u64",
            Box::new({
                let w = some.clone();
                move |_, _| w.clone()
            }),
        ),
        ("%globaltimer", "u64", Box::new(|_, _| Range(1, u64::MAX))),
        (
            "%globaltimer_lo",
            "u32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%globaltimer_hi",
            "u32",
            Box::new(|_, _| Range(1, 0xffff_ffff)),
        ),
        ("%total_smem_size", "u32", Box::new(|_, _| Range(0, 4096))),
        ("%dynamic_smem_size", "u32", Box::new(|_, _| Bits(0))),
        (
            "%envreg3",
            "b32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%pm0",
            "u32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
        (
            "%pm7",
            "u32",
            Box::new({
                let w = narrow.clone();
                move |_, _| w.clone()
            }),
        ),
    ];
    for (name, ty, want) in rows {
        t.needs(63, 50);
        one(t, name, ty, &lanes, &want);
    }
    t.needs(81, 90);
    one(t, "%aggr_smem_size", "u32", &lanes, &|_, _| Range(0, 4096));
    t.needs(78, 90);
    // Without a launch attribute a cluster is one block.
    one(t, "%is_explicit_cluster", "pred", &lanes, &|_, _| Bits(0));
    for (name, want) in [
        ("%clusterid.x", None),
        ("%clusterid.y", Some(0u64)),
        ("%nclusterid.x", Some(3)),
        ("%nclusterid.z", Some(1)),
        ("%cluster_ctaid.x", Some(0)),
        ("%cluster_ctaid.z", Some(0)),
        ("%cluster_nctaid.x", Some(1)),
        ("%cluster_nctaid.y", Some(1)),
        ("%cluster_ctarank", Some(0)),
        ("%cluster_nctarank", Some(1)),
    ] {
        one(t, name, "u32", &lanes, &move |b, _| {
            Bits(want.unwrap_or(b as u64))
        });
    }
    t.needs(76, 80);
    for name in [
        "%reserved_smem_offset_begin",
        "%reserved_smem_offset_end",
        "%reserved_smem_offset_cap",
        "%reserved_smem_offset_0",
        "%reserved_smem_offset_1",
    ] {
        one(t, name, "b32", &lanes, &|_, _| Range(0, 0xffff));
    }
    t.needs(63, 50);
    // Time goes on.
    let code = "mov.u64 %q3, %clock64; mov.u64 %q4, %globaltimer; mov.u32 %r5, 0; L: add.u32 %r5, %r5, 1; setp.lt.u32 %p1, %r5, 100; @%p1 bra L; mov.u64 %q5, %clock64; mov.u64 %q6, %globaltimer; setp.ge.u64 %p2, %q5, %q3; setp.ge.u64 %p3, %q6, %q4; and.pred %p2, %p2, %p3; selp.u32 %x, 1, 0, %p2;";
    t.block(
        "%clock64, %globaltimer do not go back",
        code,
        96,
        &["b32"],
        &["b32"],
        &lanes,
        |_| vec![vec![Bits(1)]; 96],
    );
    let code = "mov.u32 %x, %tid.x; mov.u32 %y, %tid.y; mov.u32 %z, %ntid.y; mov.u16 %w, %ntid.x;";
    t.block(
        "%tid, %ntid in parts",
        code,
        96,
        &["b32"],
        &["b32", "b32", "b32", "b16"],
        &lanes,
        |_| {
            (0..96)
                .map(|l| vec![Bits(l), Bits(0), Bits(1), Bits(96)])
                .collect()
        },
    );
}

fn one(
    t: &mut Table,
    name: &str,
    ty: &str,
    lanes: &[Vec<Vec<u64>>],
    want: &dyn Fn(usize, usize) -> Want,
) {
    let reg = if ty == "u64" {
        "b64"
    } else if ty == "pred" {
        "pred"
    } else {
        "b32"
    };
    let block = std::cell::Cell::new(0);
    t.block(
        name,
        &format!("mov.{ty} %x, {name};"),
        96,
        &["b32"],
        &[reg],
        lanes,
        |_| {
            let b = block.replace(block.get() + 1);
            (0..96).map(|l| vec![want(b, l)]).collect()
        },
    );
}
