//! The vector instructions. Names as in the manual; `_ST` stores; the shifts by a number carry
//! their opcode extension in the `reg` operand.
#![allow(missing_docs, dead_code)] // a table: the tests encode more than the compiler uses

/// An EVEX instruction: opcode map (1: 0F, 2: 0F38, 3: 0F3A), prefix (0: none,
/// 1: 66, 2: F3, 3: F2), W, opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op(pub u8, pub u8, pub u8, pub u8);

macro_rules! ops {
    ($($n:ident $m:literal $p:literal $w:literal $o:literal;)*) => {
        $(pub const $n: Op = Op($m, $p, $w, $o);)*
    };
}

ops! {
    VMOVDQA32 1 1 0 0x6f; VMOVDQA32_ST 1 1 0 0x7f;
    VMOVDQU32 1 2 0 0x6f; VMOVDQU32_ST 1 2 0 0x7f;
    VMOVDQU64 1 2 1 0x6f; VMOVDQU64_ST 1 2 1 0x7f;
    VMOVDQA64 1 1 1 0x6f;
    VPADDD 1 1 0 0xfe; VPADDQ 1 1 1 0xd4; VPSUBD 1 1 0 0xfa; VPSUBQ 1 1 1 0xfb;
    VPMULLD 2 1 0 0x40; VPMULLQ 2 1 1 0x40; VPMULDQ 2 1 1 0x28; VPMULUDQ 1 1 1 0xf4;
    VPANDD 1 1 0 0xdb; VPANDQ 1 1 1 0xdb; VPORD 1 1 0 0xeb; VPXORD 1 1 0 0xef; VPXORQ 1 1 1 0xef;
    VPTERNLOGD 3 1 0 0x25;
    SHIFT_D 1 1 0 0x72; SHIFT_Q 1 1 1 0x73; SHIFT72_Q 1 1 1 0x72;
    VPSLLVD 2 1 0 0x47; VPSLLVQ 2 1 1 0x47; VPSRLVD 2 1 0 0x45; VPSRLVQ 2 1 1 0x45;
    VPSRAVD 2 1 0 0x46; VPSRAVQ 2 1 1 0x46;
    VPMINSD 2 1 0 0x39; VPMAXSD 2 1 0 0x3d; VPMINUD 2 1 0 0x3b; VPMAXUD 2 1 0 0x3f;
    VPMINSQ 2 1 1 0x39; VPMAXSQ 2 1 1 0x3d; VPMINUQ 2 1 1 0x3b; VPMAXUQ 2 1 1 0x3f;
    VPABSD 2 1 0 0x1e;
    VADDPS 1 0 0 0x58; VMULPS 1 0 0 0x59; VSUBPS 1 0 0 0x5c; VDIVPS 1 0 0 0x5e; VSQRTPS 1 0 0 0x51;
    VMINPS 1 0 0 0x5d; VMAXPS 1 0 0 0x5f;
    VADDPD 1 1 1 0x58; VMULPD 1 1 1 0x59; VSUBPD 1 1 1 0x5c; VMINPD 1 1 1 0x5d; VMAXPD 1 1 1 0x5f;
    VFMADD231PS 2 1 0 0xb8; VFMADD213PS 2 1 0 0xa8;
    VCMPPS 1 0 0 0xc2; VCMPPD 1 1 1 0xc2;
    VPCMPD 3 1 0 0x1f; VPCMPUD 3 1 0 0x1e; VPCMPQ 3 1 1 0x1f; VPCMPUQ 3 1 1 0x1e;
    VPTESTNMD 2 2 0 0x27; VPTESTMD 2 1 0 0x27;
    VPBLENDMD 2 1 0 0x64; VPBLENDMQ 2 1 1 0x64;
    VPBROADCASTD 2 1 0 0x58; VPBROADCASTQ 2 1 1 0x59;
    VPBROADCASTD_R 2 1 0 0x7c; VPBROADCASTQ_R 2 1 1 0x7c;
    VPMOVSXDQ 2 1 0 0x25; VPMOVZXDQ 2 1 0 0x35; VPMOVQD 2 2 0 0x35; VPMOVQW 2 2 0 0x34;
    VPMOVDB 2 2 0 0x31; VPMOVDW 2 2 0 0x33;
    VPMOVZXBD 2 1 0 0x31; VPMOVSXBD 2 1 0 0x21; VPMOVZXWD 2 1 0 0x33; VPMOVSXWD 2 1 0 0x23;
    VCVTDQ2PS 1 0 0 0x5b; VCVTUDQ2PS 1 3 0 0x7a; VCVTTPS2DQ 1 2 0 0x5b; VCVTTPS2UDQ 1 0 0 0x78;
    VCVTPS2PD 1 0 0 0x5a; VCVTPD2PS 1 1 1 0x5a; VCVTDQ2PD 1 2 0 0xe6;
    VCVTPH2PS 2 1 0 0x13; VCVTPS2PH 3 1 0 0x1d;
    VPSHUFD 1 1 0 0x70; VSHUFI32X4 3 1 0 0x43; VPERMT2D 2 1 0 0x7e; VPERMI2D 2 1 0 0x76; VPERMD 2 1 0 0x36;
    VINSERTI64X4 3 1 1 0x3a; VEXTRACTI64X4 3 1 1 0x3b;
    VMOVD 1 1 0 0x6e; VMOVQ 1 1 1 0x6e; VMOVD_R 1 1 0 0x7e; VMOVQ_R 1 1 1 0x7e;
    VPEXTRQ 3 1 1 0x16; VPUNPCKLQDQ 1 1 1 0x6c; VPUNPCKHQDQ 1 1 1 0x6d;
    VPMOVM2D 2 2 0 0x38; VPMOVM2Q 2 2 1 0x38;
    VPGATHERDD 2 1 0 0x90; VPGATHERDQ 2 1 1 0x90; VPGATHERQD 2 1 0 0x91; VPGATHERQQ 2 1 1 0x91;
    VPSCATTERDD 2 1 0 0xa0; VPSCATTERQD 2 1 0 0xa1; VPSCATTERQQ 2 1 1 0xa1;
    VPDPBUSD 2 1 0 0x50;
    VPSHUFB 2 1 0 0x00; VPADDB 1 1 0 0xfc; VPERMI2B 2 1 0 0x75;
 VPLZCNTD 2 1 0 0x44;
    VRNDSCALEPS 3 1 0 0x08; VRNDSCALEPD 3 1 1 0x09;
}
