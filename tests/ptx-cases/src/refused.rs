//! What the ISA has and the software GPU does not execute: it says so, with line and kernel.

use crate::form::Table;

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Not executed");
    for (version, sm, code) in [
        // Textures and surfaces.
        (
            63,
            50,
            "tex.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%q0, {%f4, %f5}];",
        ),
        (
            63,
            50,
            "tld4.r.2d.v4.f32.f32 {%f0, %f1, %f2, %f3}, [%q0, {%f4, %f5}];",
        ),
        (63, 50, "txq.width.b32 %r1, [%q0];"),
        (63, 50, "suld.b.1d.b32.trap %r1, [%q0, {%r2}];"),
        (63, 50, "sust.b.1d.b32.trap [%q0, {%r2}], %r1;"),
        (63, 50, "sured.b.add.1d.u32.trap [%q0, {%r2}], %r1;"),
        (63, 50, "suq.width.b32 %r1, [%q0];"),
        (63, 50, "istypep.texref %p1, %q0;"),
        // Barriers in memory, and what reports to them.
        (70, 80, "mbarrier.init.shared.b64 [%r1], 1;"),
        (70, 80, "mbarrier.inval.shared.b64 [%r1];"),
        (
            80,
            90,
            "mbarrier.expect_tx.relaxed.cta.shared.b64 [%r1], 16;",
        ),
        (
            80,
            90,
            "mbarrier.complete_tx.relaxed.cta.shared.b64 [%r1], 16;",
        ),
        (70, 80, "mbarrier.arrive.shared.b64 %q1, [%r1];"),
        (70, 80, "mbarrier.arrive_drop.shared.b64 %q1, [%r1];"),
        (70, 80, "mbarrier.test_wait.shared.b64 %p1, [%r1], %q1;"),
        (78, 90, "mbarrier.try_wait.shared.b64 %p1, [%r1], %q1;"),
        (70, 80, "mbarrier.pending_count.b64 %r1, %q1;"),
        (70, 80, "cp.async.mbarrier.arrive.noinc.shared.b64 [%r1];"),
        (
            81,
            90,
            "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r1], %r2, [%r3];",
        ),
        (
            81,
            90,
            "red.async.relaxed.cluster.global.mbarrier::complete_tx::bytes.shared::cluster.add.u32 [%r1], %r2, [%r3];",
        ),
        // Bulk copies and tensors.
        (
            80,
            90,
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%q0], 16, [%r2];",
        ),
        (80, 90, "cp.async.bulk.commit_group;"),
        (80, 90, "cp.async.bulk.wait_group 0;"),
        (80, 90, "cp.async.bulk.prefetch.L2.global [%q0], 16;"),
        (
            80,
            90,
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%q0], [%r1], 16;",
        ),
        (
            80,
            90,
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%q0, {%r2, %r3}], [%r4];",
        ),
        (
            80,
            90,
            "cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.bulk_group [%q0, {%r2}], [%r1];",
        ),
        (
            80,
            90,
            "cp.async.bulk.prefetch.tensor.1d.L2.global [%q0, {%r2}];",
        ),
        (80, 90, "prefetch.tensormap [%q0];"),
        (
            83,
            901,
            "tensormap.replace.tile.global_address.global.b1024.b64 [%q0], %q1;",
        ),
        // Products of several warps, and of narrow floats.
        (80, 901, "wgmma.fence.sync.aligned;"),
        (80, 901, "wgmma.commit_group.sync.aligned;"),
        (80, 901, "wgmma.wait_group.sync.aligned 0;"),
        (
            80,
            901,
            "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f0, %f1, %f2, %f3}, %q0, %q1, %p1, 1, 1, 0, 0;",
        ),
        (
            86,
            100,
            "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1, %r2}, [%r3];",
        ),
        (
            86,
            100,
            "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r1], {%r2};",
        ),
        // Several devices, and clusters of more than one block.
        (81, 90, "multimem.ld_reduce.weak.global.add.u32 %r1, [%q0];"),
        (81, 90, "multimem.st.weak.global.u32 [%q0], %r1;"),
        (81, 90, "multimem.red.add.u32 [%q0], %r1;"),
        (
            86,
            100,
            "clusterlaunchcontrol.query_cancel.is_canceled.pred.b128 %p1, %q1;",
        ),
        // Of later architectures.
        (86, 100, "tcgen05.wait::ld.sync.aligned;"),
        (
            86,
            100,
            "ld.global.v8.f32 {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7}, [%q0];",
        ),
        (
            86,
            100,
            "st.global.v8.f32 [%q0], {%f0, %f1, %f2, %f3, %f4, %f5, %f6, %f7};",
        ),
        (86, 100, "add.rn.f32x2 %q1, %q2, %q3;"),
        (86, 100, "fma.rn.f32x2 %q1, %q2, %q3, %q4;"),
        (86, 100, "redux.sync.min.NaN.f32 %f1, %f2, -1;"),
        (87, 100, "cvt.rs.f16x2.f32 %r1, %f1, %f2, %r3;"),
        (86, 100, "cvt.rn.satfinite.e2m1x2.f32 %h1, %f1, %f2;"),
        (81, 90, "fma.rn.oob.f16 %h1, %h2, %h3, %h4;"),
    ] {
        t.needs(version, sm);
        t.refused(code).code = format!(".reg .f32 %f<8>;\n{code}\nmov.b64 %x, 0;");
    }
    t.needs(63, 50);
}
