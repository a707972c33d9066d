//! The encoder against what the GNU assembler makes of the same instructions.

use super::asm::*;

fn bytes(f: impl FnOnce(&mut Asm)) -> String {
    let mut a = Asm::default();
    f(&mut a);
    let code = a.finish().expect("labels");
    code.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn instructions_have_their_encodings() {
    let frame = |d| Mem::At(RBX, d);
    let k = |k| Dec {
        k,
        ..Dec::default()
    };
    let cases: Vec<(&str, &str, String)> = vec![
        (
            "vpaddd %zmm17,%zmm9,%zmm30",
            "62213548fef1",
            bytes(|a| a.v3(op::VPADDD, Z(30), Z(9), Z(17))),
        ),
        (
            "vmovdqa32 128(%rbx),%zmm3",
            "62f17d486f5b02",
            bytes(|a| a.v2(op::VMOVDQA32, Z(3), frame(128))),
        ),
        (
            "vmovdqa32 %zmm20,0x12340(%rbx)",
            "62e17d487fa340230100",
            bytes(|a| a.v2(op::VMOVDQA32_ST, Z(20), frame(0x12340))),
        ),
        (
            "vmovdqa32 %zmm8,%zmm20{%k3}",
            "62c17d4b6fe0",
            bytes(|a| a.evex(op::VMOVDQA32, Len::Z, 20, 0, Z(8), k(3), None)),
        ),
        (
            "vpaddq 16(%r12){1to2},%xmm5,%xmm18",
            "62c1d518d4542402",
            bytes(|a| {
                a.evex(
                    op::VPADDQ,
                    Len::X,
                    18,
                    5,
                    Mem::At(R12, 16),
                    Dec {
                        bcast: true,
                        ..Dec::default()
                    },
                    None,
                )
            }),
        ),
        (
            "vfmadd231ps 4(%r9){1to16},%zmm1,%zmm27",
            "62427558b85901",
            bytes(|a| a.v3b(op::VFMADD231PS, Z(27), Z(1), Mem::At(R9, 4))),
        ),
        (
            "vcmpps $3,%zmm2,%zmm18,%k7",
            "62f16c40c2fa03",
            bytes(|a| a.cmp(op::VCMPPS, Len::Z, K(7), Z(18), Z(2), 3)),
        ),
        (
            "vpcmpuq $5,8(%r12){1to2},%xmm3,%k6",
            "62d3e5181e74240105",
            bytes(|a| {
                a.evex(
                    op::VPCMPUQ,
                    Len::X,
                    6,
                    3,
                    Mem::At(R12, 8),
                    Dec {
                        bcast: true,
                        ..Dec::default()
                    },
                    Some(5),
                )
            }),
        ),
        (
            "vpslld $7,%zmm19,%zmm2",
            "62b16d4872f307",
            bytes(|a| a.shift(op::SHIFT_D, Len::Z, 6, Z(2), Z(19), 7)),
        ),
        (
            "vprorq $2,%xmm4,%xmm21",
            "62f1d50072c402",
            bytes(|a| a.shift(op::SHIFT72_Q, Len::X, 0, Z(21), Z(4), 2)),
        ),
        (
            "vpsraq $32,%zmm4,%zmm21",
            "62f1d54072e420",
            bytes(|a| a.shift(op::SHIFT72_Q, Len::Z, 4, Z(21), Z(4), 32)),
        ),
        (
            "vmovq %xmm18,%r8",
            "62c1fd087ed0",
            bytes(|a| a.evex(op::VMOVQ_R, Len::X, 18, 0, R8, Dec::default(), None)),
        ),
        (
            "vmovq %rax,%xmm18",
            "62e1fd086ed0",
            bytes(|a| a.evex(op::VMOVQ, Len::X, 18, 0, RAX, Dec::default(), None)),
        ),
        (
            "vpextrq $1,%xmm18,%r9",
            "62c3fd0816d101",
            bytes(|a| a.evex(op::VPEXTRQ, Len::X, 18, 0, R9, Dec::default(), Some(1))),
        ),
        (
            "vpmovqd %zmm17,%ymm28",
            "62827e4835cc",
            bytes(|a| a.evex(op::VPMOVQD, Len::Z, 17, 0, Z(28), Dec::default(), None)),
        ),
        (
            "vpmovqw %xmm28,0x12340(%rbx)",
            "62627e0834a340230100",
            bytes(|a| {
                a.evex(
                    op::VPMOVQW,
                    Len::X,
                    28,
                    0,
                    frame(0x12340),
                    Dec::default(),
                    None,
                )
            }),
        ),
        (
            "vinserti64x4 $1,%ymm29,%zmm28,%zmm3",
            "62939d403add01",
            bytes(|a| a.v3i(op::VINSERTI64X4, Z(3), Z(28), Z(29), 1)),
        ),
        (
            "vextracti64x4 $1,%zmm3,%ymm28",
            "6293fd483bdc01",
            bytes(|a| {
                a.evex(
                    op::VEXTRACTI64X4,
                    Len::Z,
                    3,
                    0,
                    Z(28),
                    Dec::default(),
                    Some(1),
                )
            }),
        ),
        (
            "vpgatherqd 0x12340(%rax,%zmm29,1),%ymm30{%k5}",
            "62227d4591b42840230100",
            bytes(|a| {
                a.evex(
                    op::VPGATHERQD,
                    Len::Z,
                    30,
                    0,
                    Mem::Vsib(RAX, Z(29), 0x12340),
                    k(5),
                    None,
                )
            }),
        ),
        (
            "vpgatherqq 0x12340(%r9,%zmm3,1),%zmm30{%k5}",
            "6242fd4d91b41940230100",
            bytes(|a| {
                a.evex(
                    op::VPGATHERQQ,
                    Len::Z,
                    30,
                    0,
                    Mem::Vsib(R9, Z(3), 0x12340),
                    k(5),
                    None,
                )
            }),
        ),
        (
            "vpscatterqd %ymm30,0x12340(%r9,%zmm3,1){%k5}",
            "62427d4da1b41940230100",
            bytes(|a| {
                a.evex(
                    op::VPSCATTERQD,
                    Len::Z,
                    30,
                    0,
                    Mem::Vsib(R9, Z(3), 0x12340),
                    k(5),
                    None,
                )
            }),
        ),
        (
            "vpdpbusd %zmm2,%zmm18,%zmm30",
            "62626d4050f2",
            bytes(|a| a.v3(op::VPDPBUSD, Z(30), Z(18), Z(2))),
        ),
        (
            "vcvtph2ps %ymm18,%zmm3",
            "62b27d4813da",
            bytes(|a| a.v2(op::VCVTPH2PS, Z(3), Z(18))),
        ),
        (
            "vcvtps2ph $0,%zmm3,%ymm18",
            "62b37d481dda00",
            bytes(|a| a.evex(op::VCVTPS2PH, Len::Z, 3, 0, Z(18), Dec::default(), Some(0))),
        ),
        (
            "vcvtudq2ps %zmm3,%zmm18",
            "62e17f487ad3",
            bytes(|a| a.v2(op::VCVTUDQ2PS, Z(18), Z(3))),
        ),
        (
            "vcvttps2udq %zmm3,%zmm18",
            "62e17c4878d3",
            bytes(|a| a.v2(op::VCVTTPS2UDQ, Z(18), Z(3))),
        ),
        (
            "vpermi2d %zmm3,%zmm18,%zmm1",
            "62f26d4076cb",
            bytes(|a| a.v3(op::VPERMI2D, Z(1), Z(18), Z(3))),
        ),
        (
            "vshufi32x4 $0x4e,%zmm3,%zmm3,%zmm18",
            "62e3654843d34e",
            bytes(|a| a.v3i(op::VSHUFI32X4, Z(18), Z(3), Z(3), 0x4e)),
        ),
        (
            "vpshufd $0xb1,%zmm3,%zmm18",
            "62e17d4870d3b1",
            bytes(|a| a.evex(op::VPSHUFD, Len::Z, 18, 0, Z(3), Dec::default(), Some(0xb1))),
        ),
        (
            "vpmovm2d %k5,%xmm30",
            "62627e0838f5",
            bytes(|a| a.evex(op::VPMOVM2D, Len::X, 30, 0, Z(5), Dec::default(), None)),
        ),
        (
            "vpbroadcastd %xmm19,%zmm3",
            "62b27d4858db",
            bytes(|a| a.v2(op::VPBROADCASTD, Z(3), Z(19))),
        ),
        (
            "vpbroadcastd %eax,%zmm19",
            "62e27d487cd8",
            bytes(|a| a.v2(op::VPBROADCASTD_R, Z(19), RAX)),
        ),
        (
            "vpunpcklqdq %xmm3,%xmm19,%xmm2",
            "62f1e5006cd3",
            bytes(|a| a.x3(op::VPUNPCKLQDQ, Z(2), Z(19), Z(3))),
        ),
        (
            "kmovd %r15d,%k1",
            "c4c17b92cf",
            bytes(|a| a.kmovd_from(K(1), R15)),
        ),
        (
            "kmovd %k5,%eax",
            "c4e17b93c5",
            bytes(|a| a.kmovd_to(RAX, K(5))),
        ),
        (
            "kmovw 18(%rbx),%k5",
            "c4e178906b12",
            bytes(|a| a.kmovw_load(K(5), frame(18))),
        ),
        (
            "kmovb 300(%rbx),%k5",
            "c4e17990ab2c010000",
            bytes(|a| a.kmovb_load(K(5), frame(300))),
        ),
        (
            "kunpckwd %k6,%k5,%k7",
            "c4e1544bfe",
            bytes(|a| a.kunpckwd(K(7), K(5), K(6))),
        ),
        (
            "kunpckbw %k6,%k5,%k7",
            "c4e1554bfe",
            bytes(|a| a.kunpckbw(K(7), K(5), K(6))),
        ),
        (
            "kandw %k6,%k5,%k7",
            "c4e15441fe",
            bytes(|a| a.kandw(K(7), K(5), K(6))),
        ),
        (
            "kortestb %k7,%k7",
            "c4e17998ff",
            bytes(|a| a.kortestb(K(7), K(7))),
        ),
        (
            "mov 8(%r12),%r9",
            "4d8b4c2408",
            bytes(|a| a.load64(R9, Mem::At(R12, 8))),
        ),
        (
            "mov 0x1234(%rbp),%r15d",
            "448bbd34120000",
            bytes(|a| a.load32(R15, Mem::At(RBP, 0x1234))),
        ),
        (
            "movl $0x55,16(%rbp)",
            "c7451055000000",
            bytes(|a| a.store_imm32(Mem::At(RBP, 16), 0x55)),
        ),
        (
            "movsbl 1(%r9),%eax",
            "410fbe4101",
            bytes(|a| a.load_small(RAX, Mem::At(R9, 1), 1, true)),
        ),
        (
            "movzwl 1(%r9),%eax",
            "410fb74101",
            bytes(|a| a.load_small(RAX, Mem::At(R9, 1), 2, false)),
        ),
        (
            "movabs $0x123456789abc,%r9",
            "49b9bc9a785634120000",
            bytes(|a| a.imm64(R9, 0x1234_5678_9abc)),
        ),
        (
            "add 16(%rbp),%r8",
            "4c034510",
            bytes(|a| a.add(R8, Mem::At(RBP, 16))),
        ),
        (
            "sub 48(%r12),%rdx",
            "492b542430",
            bytes(|a| a.sub(RDX, Mem::At(R12, 48))),
        ),
        (
            "cmp 40(%r12),%rdx",
            "493b542428",
            bytes(|a| a.cmp64(RDX, Mem::At(R12, 40))),
        ),
        (
            "add $0x800,%rdx",
            "4881c200080000",
            bytes(|a| a.add_imm(RDX, 2048)),
        ),
        (
            "cmp $0x1000,%rdx",
            "4881fa00100000",
            bytes(|a| a.cmp_imm(RDX, 4096)),
        ),
        (
            "cmpq $0,40(%r12)",
            "49837c242800",
            bytes(|a| a.cmp_mem64(Mem::At(R12, 40), 0)),
        ),
        ("shl $3,%rdx", "48c1e203", bytes(|a| a.shl(RDX, 3))),
        (
            "prefetcht0 64(%rdx)",
            "0f184a40",
            bytes(|a| a.prefetch(Mem::At(RDX, 64))),
        ),
        ("cmp $-1,%r15d", "4183ffff", bytes(|a| a.cmp_imm8(R15, -1))),
        (
            "subl $1,16(%rbp)",
            "836d1001",
            bytes(|a| a.count_down(Mem::At(RBP, 16))),
        ),
        (
            "cmpb $0,0(%rax)",
            "803800",
            bytes(|a| a.cmp_byte(Mem::At(RAX, 0), 0)),
        ),
        ("shr $15,%ecx", "c1e90f", bytes(|a| a.shr32(RCX, 15))),
        ("push %r12", "4154", bytes(|a| a.push(R12))),
        ("call *%rax", "ffd0", bytes(|a| a.call(RAX))),
        ("jmp *%rdx", "ffe2", bytes(|a| a.jump_to(RDX))),
        (
            "jmp *56(%rbp)",
            "ff6538",
            bytes(|a| a.jump_to_mem(Mem::At(RBP, 56))),
        ),
        (
            "lea 0(%rip),%r9",
            "4c8d0d00000000",
            bytes(|a| {
                let l = a.label();
                a.address_of(R9, l);
                a.bind(l);
            }),
        ),
        ("test %rdx,%rdx", "4885d2", bytes(|a| a.test64(RDX))),
        ("add $72,%rsp", "4883c448", bytes(|a| a.move_stack(72))),
        ("not %eax", "f7d0", bytes(|a| a.not32(RAX))),
        (
            "mov 64(%rsp),%r8",
            "4c8b442440",
            bytes(|a| a.load64(R8, Mem::At(RSP, 64))),
        ),
        (
            "vmulph %zmm20,%zmm3,%zmm29",
            "6225644859ec",
            bytes(|a| a.v3(op::VMULPH, Z(29), Z(3), Z(20))),
        ),
        (
            "vsubph %zmm2,%zmm1,%zmm7",
            "62f574485cfa",
            bytes(|a| a.v3(op::VSUBPH, Z(7), Z(1), Z(2))),
        ),
        (
            "vaddph %zmm17,%zmm9,%zmm30",
            "6225344858f1",
            bytes(|a| a.v3(op::VADDPH, Z(30), Z(9), Z(17))),
        ),
        (
            "vcmpunordph %zmm29,%zmm29,%k7",
            "62931440c2fd03",
            bytes(|a| a.cmp(op::VCMPPH, Len::Z, K(7), Z(29), Z(29), 3)),
        ),
        (
            "vpblendmw %zmm1,%zmm29,%zmm23{%k7}",
            "62e2954766f9",
            bytes(|a| a.evex(op::VPBLENDMW, Len::Z, 23, 29, Z(1), k(7), None)),
        ),
        ("vzeroupper", "c5f877", bytes(|a| a.vzeroupper())),
    ];
    for (text, want, got) in cases {
        assert_eq!(want, got, "{text}");
    }
}
