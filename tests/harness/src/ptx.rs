//! Kernels, written by hand.

/// `add(a, b, c, n)`: c[i] = a[i] + b[i], f32.
pub const VECTOR_ADD: &str = r#"
.version 8.0
.target sm_90
.address_size 64
.visible .entry add(
    .param .u64 add_param_0,
    .param .u64 add_param_1,
    .param .u64 add_param_2,
    .param .u32 add_param_3
)
{
    .reg .pred %p<2>;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %rd<11>;

    ld.param.u64 %rd1, [add_param_0];
    ld.param.u64 %rd2, [add_param_1];
    ld.param.u64 %rd3, [add_param_2];
    ld.param.u32 %r2, [add_param_3];
    mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x;
    mov.u32 %r5, %tid.x;
    mad.lo.s32 %r1, %r3, %r4, %r5;
    setp.ge.u32 %p1, %r1, %r2;
    @%p1 bra DONE;
    cvta.to.global.u64 %rd4, %rd1;
    mul.wide.u32 %rd5, %r1, 4;
    add.s64 %rd6, %rd4, %rd5;
    cvta.to.global.u64 %rd7, %rd2;
    add.s64 %rd8, %rd7, %rd5;
    ld.global.f32 %f1, [%rd8];
    ld.global.f32 %f2, [%rd6];
    add.f32 %f3, %f2, %f1;
    cvta.to.global.u64 %rd9, %rd3;
    add.s64 %rd10, %rd9, %rd5;
    st.global.f32 [%rd10], %f3;
DONE:
    ret;
}
"#;

/// `forever()`: never ends by itself. `poke(p)`: writes a word to any address. A global variable
/// `counter` of 4 words.
pub const MISCHIEF: &str = r#"
.version 8.0
.target sm_90
.address_size 64
.visible .global .align 4 .u32 counter[4] = {1, 2, 3, 4};
.visible .entry forever()
{
    .reg .pred %p<2>;
    .reg .b32 %r<3>;
    mov.u32 %r1, 0;
AGAIN:
    add.s32 %r1, %r1, 1;
    or.b32 %r1, %r1, 1;
    setp.ne.s32 %p1, %r1, 0;
    @%p1 bra AGAIN;
    ret;
}
.visible .entry poke(
    .param .u64 poke_param_0
)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [poke_param_0];
    cvta.to.global.u64 %rd2, %rd1;
    mov.u32 %r1, 42;
    st.global.u32 [%rd2], %r1;
    ret;
}
"#;
