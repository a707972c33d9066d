//! What `mma.sp` leaves out takes no part, and which operands it refuses. Values of all shapes and types are compared by the
//! table of PTX instructions.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::sync::Arc;

use common::{Arg, devices};
use vgpu_soft_gpu::{AddressSpace, LoadOptions, Module};

fn kernel(operation: &str) -> String {
    format!(
        "
.version 8.5
.target sm_90
.address_size 64
.visible .entry k(.param .u64 out) {{
	.reg .pred %p<4>; .reg .b32 %r<12>; .reg .f32 %f<9>; .reg .b64 %q<4>;
	ld.param.u64 %q1, [out];
	mov.u32 %r1, %laneid;
	mov.b32 %r2, 0x3c003c00;
	and.b32 %r3, %r1, 1;
	setp.ne.u32 %p1, %r3, 0;
	selp.b32 %r4, 0x7e007c00, %r2, %p1;
	and.b32 %r5, %r1, 3;
	setp.eq.u32 %p2, %r5, 2;
	selp.b32 %r6, 0x44444444, 0xeeeeeeee, %p2;
	mov.f32 %f1, 0f3f800000;
	{operation}
	mul.wide.u32 %q2, %r1, 16;
	add.s64 %q3, %q1, %q2;
	st.global.v4.f32 [%q3], {{%f5,%f6,%f7,%f8}};
	ret;
}}
"
    )
}

const OPERANDS: &str = "{%f5,%f6,%f7,%f8}, {%r2,%r2}, {%r4,%r4}, {%f1,%f1,%f1,%f1}";

/// Of each four elements of A the first two are left; the rows of B that the other two belong to hold infinities
/// and NaNs. Only the selected lane's metadata says so.
#[test]
fn elements_that_are_left_out_multiply_nothing() {
    for variant in ["sp", "sp::ordered_metadata"] {
        let operation = format!(
            "mma.{variant}.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {OPERANDS}, %r6, 2;"
        );
        for d in devices(&kernel(&operation)) {
            let out = d.upload(&[0f32; 128]);
            d.launch("k", 1, 32, &[Arg::Ptr(out)]);
            assert_eq!(d.download::<f32>(out, 128), [9.0; 128], "{variant}");
        }
    }
}

#[test]
fn selectors_and_operands_that_are_not_there_are_errors() {
    let load = |shape: &str, operands: &str| {
        let space = Arc::new(AddressSpace::new(1 << 20).unwrap());
        let operation = format!("mma.sp.sync.aligned.{shape} {operands};");
        Module::load(
            kernel(&operation).as_bytes(),
            &LoadOptions::default(),
            &space,
        )
        .map(|m| m.function("k").is_some_and(|f| f.unsupported().is_none()))
    };
    let half = "m16n8k16.row.col.f32.f16.f16.f32";
    assert!(load(half, &format!("{OPERANDS}, %r6, 3")).unwrap());
    for tail in [", %r6, 4", ", %r6, -1", ", %r6, %r1", ", %r6", ""] {
        let refused = load(half, &format!("{OPERANDS}{tail}"));
        assert!(refused.is_err(), "{tail}");
    }
    // Two lanes of a row hold the metadata, or all four.
    for (shape, most) in [
        ("m16n8k32.row.col.f32.f16.f16.f32", 1),
        ("m16n8k64.row.col.f32.e4m3.e4m3.f32", 0),
    ] {
        let operands = |s: u32| {
            format!(
                "{{%f5,%f6,%f7,%f8}}, {{%r2,%r2,%r2,%r2}}, {{%r4,%r4,%r4,%r4}}, {{%f1,%f1,%f1,%f1}}, %r6, {s}"
            )
        };
        assert!(load(shape, &operands(most)).unwrap(), "{shape}");
        assert!(load(shape, &operands(most + 1)).is_err(), "{shape}");
    }
    // Shapes of `mma` that no `mma.sp` has.
    for shape in [
        "m16n8k8.row.col.f32.f16.f16.f32",
        "m16n8k4294967295.row.col.s32.s8.s8.s32",
    ] {
        assert!(!load(shape, &format!("{OPERANDS}, %r6, 0")).unwrap());
    }
}
