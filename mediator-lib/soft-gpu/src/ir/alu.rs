//! The table of lane operations: one row gives an operation its name, operand
//! types and meaning for one lane. The scalar function, the warp-wide handlers
//! for each instruction set, and the names in logs all expand from the row.

/// Expands `$m!` with every row: `Name[aux](operands) -> result { meaning };`.
/// Rows under `wide` get a handler per instruction set; those under `plain`
/// (libm calls, big integers) gain nothing from wider vectors.
macro_rules! alu_table {
    ($m:ident) => {
        $m! {
            wide {
                Mov32[_x](a: u32) -> u32 { a };
                Mov64[_x](a: u64) -> u64 { a };
                AddI32[_x](a: u32, b: u32) -> u32 { a.wrapping_add(b) };
                SubI32[_x](a: u32, b: u32) -> u32 { a.wrapping_sub(b) };
                MulLo32[_x](a: u32, b: u32) -> u32 { a.wrapping_mul(b) };
                MadLo32[_x](a: u32, b: u32, c: u32) -> u32 { a.wrapping_mul(b).wrapping_add(c) };
                AddI64[_x](a: u64, b: u64) -> u64 { a.wrapping_add(b) };
                SubI64[_x](a: u64, b: u64) -> u64 { a.wrapping_sub(b) };
                MulLo64[_x](a: u64, b: u64) -> u64 { a.wrapping_mul(b) };
                MadLo64[_x](a: u64, b: u64, c: u64) -> u64 { a.wrapping_mul(b).wrapping_add(c) };
                MulHiS32[_x](a: i32, b: i32) -> i32 { ((i64::from(a) * i64::from(b)) >> 32) as i32 };
                MulHiU32[_x](a: u32, b: u32) -> u32 { ((u64::from(a) * u64::from(b)) >> 32) as u32 };
                MulWideS32[_x](a: i32, b: i32) -> i64 { i64::from(a) * i64::from(b) };
                MulWideU32[_x](a: u32, b: u32) -> u64 { u64::from(a) * u64::from(b) };
                MadWideS32[_x](a: i32, b: i32, c: i64) -> i64 { (i64::from(a) * i64::from(b)).wrapping_add(c) };
                MadWideU32[_x](a: u32, b: u32, c: u64) -> u64 { (u64::from(a) * u64::from(b)).wrapping_add(c) };
                And32[_x](a: u32, b: u32) -> u32 { a & b };
                Or32[_x](a: u32, b: u32) -> u32 { a | b };
                Xor32[_x](a: u32, b: u32) -> u32 { a ^ b };
                Not32[_x](a: u32) -> u32 { !a };
                And64[_x](a: u64, b: u64) -> u64 { a & b };
                Or64[_x](a: u64, b: u64) -> u64 { a | b };
                Xor64[_x](a: u64, b: u64) -> u64 { a ^ b };
                Not64[_x](a: u64) -> u64 { !a };
                Shl32[_x](a: u32, b: u32) -> u32 { if b > 31 { 0 } else { a << (b & 31) } };
                ShrU32[_x](a: u32, b: u32) -> u32 { if b > 31 { 0 } else { a >> (b & 31) } };
                ShrS32[_x](a: i32, b: u32) -> i32 { a >> if b > 31 { 31 } else { b } };
                Shl64[_x](a: u64, b: u32) -> u64 { if b > 63 { 0 } else { a << (b & 63) } };
                ShrU64[_x](a: u64, b: u32) -> u64 { if b > 63 { 0 } else { a >> (b & 63) } };
                ShrS64[_x](a: i64, b: u32) -> i64 { a >> if b > 63 { 63 } else { b } };
                MinS32[_x](a: i32, b: i32) -> i32 { a.min(b) };
                MaxS32[_x](a: i32, b: i32) -> i32 { a.max(b) };
                MinU32[_x](a: u32, b: u32) -> u32 { a.min(b) };
                MaxU32[_x](a: u32, b: u32) -> u32 { a.max(b) };
                MinS64[_x](a: i64, b: i64) -> i64 { a.min(b) };
                MaxS64[_x](a: i64, b: i64) -> i64 { a.max(b) };
                MinU64[_x](a: u64, b: u64) -> u64 { a.min(b) };
                MaxU64[_x](a: u64, b: u64) -> u64 { a.max(b) };
                AbsS32[_x](a: i32) -> i32 { a.wrapping_abs() };
                AbsS64[_x](a: i64) -> i64 { a.wrapping_abs() };
                NegI32[_x](a: u32) -> u32 { a.wrapping_neg() };
                NegI64[_x](a: u64) -> u64 { a.wrapping_neg() };
                Sext8[_x](a: u32) -> i32 { i32::from(a as i8) };
                Sext16[_x](a: u32) -> i32 { i32::from(a as i16) };
                Zext8[_x](a: u32) -> u32 { a & 0xff };
                Zext16[_x](a: u32) -> u32 { a & 0xffff };
                Sext64[_x](a: i32) -> i64 { i64::from(a) };
                Zext64[_x](a: u32) -> u64 { u64::from(a) };
                Trunc32[_x](a: u64) -> u32 { a as u32 };
                High32[_x](a: u64) -> u32 { (a >> 32) as u32 };
                Pack64[_x](a: u32, b: u32) -> u64 { u64::from(a) | (u64::from(b) << 32) };
                Pack32[_x](a: u32, b: u32) -> u32 { (a & 0xffff) | (b << 16) };
                ShlOr[x](a: u32, b: u32) -> u32 { let s = x & 31; let m = (x >> 8).wrapping_shl(s); (b & !m) | ((a << s) & m) };
                Sel32[_x](a: u32, b: u32, p: bool) -> u32 { if p { a } else { b } };
                Sel64[_x](a: u64, b: u64, p: bool) -> u64 { if p { a } else { b } };
                EqI32[_x](a: u32, b: u32) -> bool { a == b };
                NeI32[_x](a: u32, b: u32) -> bool { a != b };
                LtS32[_x](a: i32, b: i32) -> bool { a < b };
                LeS32[_x](a: i32, b: i32) -> bool { a <= b };
                LtU32[_x](a: u32, b: u32) -> bool { a < b };
                LeU32[_x](a: u32, b: u32) -> bool { a <= b };
                EqI64[_x](a: u64, b: u64) -> bool { a == b };
                NeI64[_x](a: u64, b: u64) -> bool { a != b };
                LtS64[_x](a: i64, b: i64) -> bool { a < b };
                LeS64[_x](a: i64, b: i64) -> bool { a <= b };
                LtU64[_x](a: u64, b: u64) -> bool { a < b };
                LeU64[_x](a: u64, b: u64) -> bool { a <= b };
                EqF32[_x](a: f32, b: f32) -> bool { a == b };
                LtF32[_x](a: f32, b: f32) -> bool { a < b };
                LeF32[_x](a: f32, b: f32) -> bool { a <= b };
                NeuF32[_x](a: f32, b: f32) -> bool { a != b };
                NanF32[_x](a: f32, b: f32) -> bool { a.is_nan() | b.is_nan() };
                EqF64[_x](a: f64, b: f64) -> bool { a == b };
                LtF64[_x](a: f64, b: f64) -> bool { a < b };
                LeF64[_x](a: f64, b: f64) -> bool { a <= b };
                NeuF64[_x](a: f64, b: f64) -> bool { a != b };
                NanF64[_x](a: f64, b: f64) -> bool { a.is_nan() | b.is_nan() };
                AddF32[_x](a: f32, b: f32) -> f32 { canon(a + b) };
                SubF32[_x](a: f32, b: f32) -> f32 { canon(a - b) };
                MulF32[_x](a: f32, b: f32) -> f32 { canon(a * b) };
                FmaF32[_x](a: f32, b: f32, c: f32) -> f32 { canon(a.mul_add(b, c)) };
                AddF32Ftz[_x](a: f32, b: f32) -> f32 { canon(ftz(ftz(a) + ftz(b))) };
                SubF32Ftz[_x](a: f32, b: f32) -> f32 { canon(ftz(ftz(a) - ftz(b))) };
                MulF32Ftz[_x](a: f32, b: f32) -> f32 { canon(ftz(ftz(a) * ftz(b))) };
                FmaF32Ftz[_x](a: f32, b: f32, c: f32) -> f32 { canon(ftz(ftz(a).mul_add(ftz(b), ftz(c)))) };
                DivF32[_x](a: f32, b: f32) -> f32 { canon(a / b) };
                SqrtF32[_x](a: f32) -> f32 { canon(a.sqrt()) };
                RcpF32[_x](a: f32) -> f32 { canon(1.0 / a) };
                RsqrtF32[_x](a: f32) -> f32 { canon((1.0 / f64::from(a).sqrt()) as f32) };
                MinF32[_x](a: f32, b: f32) -> f32 { fmin32(a, b) };
                MaxF32[_x](a: f32, b: f32) -> f32 { fmax32(a, b) };
                AbsF32[_x](a: u32) -> u32 { a & 0x7fff_ffff };
                NegF32[_x](a: u32) -> u32 { a ^ 0x8000_0000 };
                FtzF32[_x](a: f32) -> f32 { ftz(a) };
                AddF64[_x](a: f64, b: f64) -> f64 { a + b };
                SubF64[_x](a: f64, b: f64) -> f64 { a - b };
                MulF64[_x](a: f64, b: f64) -> f64 { a * b };
                FmaF64[_x](a: f64, b: f64, c: f64) -> f64 { a.mul_add(b, c) };
                DivF64[_x](a: f64, b: f64) -> f64 { a / b };
                SqrtF64[_x](a: f64) -> f64 { a.sqrt() };
                RcpF64[_x](a: f64) -> f64 { 1.0 / a };
                RsqrtF64[_x](a: f64) -> f64 { 1.0 / a.sqrt() };
                MinF64[_x](a: f64, b: f64) -> f64 { fmin64(a, b) };
                MaxF64[_x](a: f64, b: f64) -> f64 { fmax64(a, b) };
                AbsF64[_x](a: u64) -> u64 { a & !(1 << 63) };
                NegF64[_x](a: u64) -> u64 { a ^ (1 << 63) };
                F32FromS32[_x](a: i32) -> f32 { a as f32 };
                F32FromU32[_x](a: u32) -> f32 { a as f32 };
                F64FromS32[_x](a: i32) -> f64 { f64::from(a) };
                F64FromU32[_x](a: u32) -> f64 { f64::from(a) };
                S32FromF32[_x](a: f32) -> i32 { a as i32 };
                U32FromF32[_x](a: f32) -> u32 { a as u32 };
                F64FromF32[_x](a: f32) -> f64 { f64::from(a) };
                F32FromF64[_x](a: f64) -> f32 { canon(a as f32) };
                Ex2F32[_x](a: f32) -> f32 { ex2(a) };
                F32FromF16[_x](a: u32) -> f32 { canon(f16_value(a & 0xffff)) };
                F32FromBf16[_x](a: u32) -> f32 { canon(f32::from_bits(a << 16)) };
                F16FromF32[_x](a: f32) -> u32 { f16_bits(a) };
                Bf16FromF32[_x](a: f32) -> u32 { bf16_bits(a) };
                PackF16[_x](a: f32, b: f32) -> u32 { (f16_bits(a) << 16) | f16_bits(b) };
                PackBf16[_x](a: f32, b: f32) -> u32 { (bf16_bits(a) << 16) | bf16_bits(b) };
                AddF16[_x](a: u32, b: u32) -> u32 { f16_pair(|h| f16_value(h(a)) + f16_value(h(b))) };
                SubF16[_x](a: u32, b: u32) -> u32 { f16_pair(|h| f16_value(h(a)) - f16_value(h(b))) };
                MulF16[_x](a: u32, b: u32) -> u32 { f16_pair(|h| f16_value(h(a)) * f16_value(h(b))) };
                FmaF16[_x](a: u32, b: u32, c: u32) -> u32 { f16_pair(|h| fma_odd32(f16_value(h(a)), f16_value(h(b)), f16_value(h(c)))) };
                MinF16[_x](a: u32, b: u32) -> u32 { f16_pair(|h| fmin32(f16_value(h(a)), f16_value(h(b)))) };
                MaxF16[_x](a: u32, b: u32) -> u32 { f16_pair(|h| fmax32(f16_value(h(a)), f16_value(h(b)))) };
                Ex2F16[_x](a: u32) -> u32 { f16_pair(|h| ex2(f16_value(h(a)))) };
                CmpF16[x](a: u32, b: u32) -> bool { compare_values(x, f16_value(half_of(x, a)), f16_value(half_of(x, b))) };
                PrmtConst[x](a: u32, b: u32) -> u32 { prmt_byte(x, 0, a, b) | prmt_byte(x, 1, a, b) | prmt_byte(x, 2, a, b) | prmt_byte(x, 3, a, b) };
                AddBf16[_x](a: u32, b: u32) -> u32 { bf16_pair(|h| bf16_value(h(a)) + bf16_value(h(b))) };
                SubBf16[_x](a: u32, b: u32) -> u32 { bf16_pair(|h| bf16_value(h(a)) - bf16_value(h(b))) };
                MulBf16[_x](a: u32, b: u32) -> u32 { bf16_pair(|h| fma_odd64(bf16_value(h(a)), bf16_value(h(b)), -0.0)) };
                FmaBf16[_x](a: u32, b: u32, c: u32) -> u32 { bf16_pair(|h| fma_odd64(bf16_value(h(a)), bf16_value(h(b)), bf16_value(h(c)))) };
                MinBf16[_x](a: u32, b: u32) -> u32 { bf16_pair(|h| fmin32(bf16_value(h(a)), bf16_value(h(b)))) };
                MaxBf16[_x](a: u32, b: u32) -> u32 { bf16_pair(|h| fmax32(bf16_value(h(a)), bf16_value(h(b)))) };
                Lg2F32[_x](a: f32) -> f32 { lg2(a) };
                SinF32[_x](a: f32) -> f32 { sin(a) };
                CosF32[_x](a: f32) -> f32 { cos(a) };
            }
            plain {
                FmaF32Exact[_x](a: f32, b: f32, c: f32) -> f32 { canon(fma32(a, b, c)) };
                FmaF32FtzExact[_x](a: f32, b: f32, c: f32) -> f32 { canon(ftz(fma32(ftz(a), ftz(b), ftz(c)))) };
                MulHiS64[_x](a: i64, b: i64) -> i64 { ((i128::from(a) * i128::from(b)) >> 64) as i64 };
                MulHiU64[_x](a: u64, b: u64) -> u64 { ((u128::from(a) * u128::from(b)) >> 64) as u64 };
                DivS32[_x](a: i32, b: i32) -> i32 { if b == 0 { -1 } else { a.wrapping_div(b) } };
                DivU32[_x](a: u32, b: u32) -> u32 { a.checked_div(b).unwrap_or(u32::MAX) };
                RemS32[_x](a: i32, b: i32) -> i32 { if b == 0 { a } else { a.wrapping_rem(b) } };
                RemU32[_x](a: u32, b: u32) -> u32 { a.checked_rem(b).unwrap_or(a) };
                DivS64[_x](a: i64, b: i64) -> i64 { if b == 0 { -1 } else { a.wrapping_div(b) } };
                DivU64[_x](a: u64, b: u64) -> u64 { a.checked_div(b).unwrap_or(u64::MAX) };
                RemS64[_x](a: i64, b: i64) -> i64 { if b == 0 { a } else { a.wrapping_rem(b) } };
                RemU64[_x](a: u64, b: u64) -> u64 { a.checked_rem(b).unwrap_or(a) };
                Mul24S[x](a: u32, b: u32) -> u32 { mul24(a, b, true, x != 0) };
                Mul24U[x](a: u32, b: u32) -> u32 { mul24(a, b, false, x != 0) };
                AddSatS32[_x](a: i32, b: i32) -> i32 { a.saturating_add(b) };
                SubSatS32[_x](a: i32, b: i32) -> i32 { a.saturating_sub(b) };
                MadHiSatS32[_x](a: i32, b: i32, c: i32) -> i32 { (((i64::from(a) * i64::from(b)) >> 32) as i32).saturating_add(c) };
                SadS32[_x](a: i32, b: i32, c: u32) -> u32 { c.wrapping_add(a.abs_diff(b)) };
                SadU32[_x](a: u32, b: u32, c: u32) -> u32 { c.wrapping_add(a.abs_diff(b)) };
                SadS64[_x](a: i64, b: i64, c: u64) -> u64 { c.wrapping_add(a.abs_diff(b)) };
                SadU64[_x](a: u64, b: u64, c: u64) -> u64 { c.wrapping_add(a.abs_diff(b)) };
                Popc32[_x](a: u32) -> u32 { a.count_ones() };
                Popc64[_x](a: u64) -> u32 { a.count_ones() };
                Clz32[_x](a: u32) -> u32 { a.leading_zeros() };
                Clz64[_x](a: u64) -> u32 { a.leading_zeros() };
                Brev32[_x](a: u32) -> u32 { a.reverse_bits() };
                Brev64[_x](a: u64) -> u64 { a.reverse_bits() };
                BfindU[x](a: u32) -> u32 { bfind(u64::from(a), 32, x != 0) };
                BfindS[x](a: i32) -> u32 { bfind(u64::from((if a < 0 { !a } else { a }) as u32), 32, x != 0) };
                BfindU64[x](a: u64) -> u32 { bfind(a, 64, x != 0) };
                BfindS64[x](a: i64) -> u32 { bfind((if a < 0 { !a } else { a }) as u64, 64, x != 0) };
                BfeU32[_x](a: u32, b: u32, c: u32) -> u32 { bfe(u64::from(a), b, c, 32, false) as u32 };
                BfeS32[_x](a: u32, b: u32, c: u32) -> u32 { bfe(u64::from(a), b, c, 32, true) as u32 };
                BfeU64[_x](a: u64, b: u32, c: u32) -> u64 { bfe(a, b, c, 64, false) };
                BfeS64[_x](a: u64, b: u32, c: u32) -> u64 { bfe(a, b, c, 64, true) };
                Bfi32[_x](a: u32, b: u32, c: u32, d: u32) -> u32 { bfi(u64::from(a), u64::from(b), c, d, 32) as u32 };
                Bfi64[_x](a: u64, b: u64, c: u32, d: u32) -> u64 { bfi(a, b, c, d, 64) };
                Bmsk[x](a: u32, b: u32) -> u32 { bmsk(a, b, x != 0) };
                SzextU[x](a: u32, b: u32) -> u32 { szext(a, b, x != 0, false) };
                SzextS[x](a: u32, b: u32) -> u32 { szext(a, b, x != 0, true) };
                Prmt[x](a: u32, b: u32, c: u32) -> u32 { prmt(a, b, c, x) };
                Lop3[x](a: u32, b: u32, c: u32) -> u32 { lop3(a, b, c, x) };
                ShfL[x](a: u32, b: u32, c: u32) -> u32 { shf_l(a, b, c, x != 0) };
                ShfR[x](a: u32, b: u32, c: u32) -> u32 { shf_r(a, b, c, x != 0) };
                Dp4a[x](a: u32, b: u32, c: u32) -> u32 { dp4a(a, b, c, x) };
                Dp2a[x](a: u32, b: u32, c: u32) -> u32 { dp2a(a, b, c, x) };
                Cnot32[_x](a: u32) -> u32 { u32::from(a == 0) };
                Cnot64[_x](a: u64) -> u64 { u64::from(a == 0) };
                Fns[_x](a: u32, b: u32, c: i32) -> u32 { fns(a, b, c) };
                AddCarry32[_x](a: u32, b: u32, c: bool) -> u32 { a.wrapping_add(b).wrapping_add(u32::from(c)) };
                AddCarryOut32[_x](a: u32, b: u32, c: bool) -> bool { u64::from(a) + u64::from(b) + u64::from(c) > u64::from(u32::MAX) };
                SubBorrow32[_x](a: u32, b: u32, c: bool) -> u32 { a.wrapping_sub(b).wrapping_sub(u32::from(c)) };
                SubBorrowOut32[_x](a: u32, b: u32, c: bool) -> bool { u64::from(a) < u64::from(b) + u64::from(c) };
                AddCarry64[_x](a: u64, b: u64, c: bool) -> u64 { a.wrapping_add(b).wrapping_add(u64::from(c)) };
                AddCarryOut64[_x](a: u64, b: u64, c: bool) -> bool { u128::from(a) + u128::from(b) + u128::from(c) > u128::from(u64::MAX) };
                SubBorrow64[_x](a: u64, b: u64, c: bool) -> u64 { a.wrapping_sub(b).wrapping_sub(u64::from(c)) };
                SubBorrowOut64[_x](a: u64, b: u64, c: bool) -> bool { u128::from(a) < u128::from(b) + u128::from(c) };
                TanhF32[_x](a: f32) -> f32 { canon(a.tanh()) };
                RcpApproxF64[_x](a: u64) -> u64 { rcp_approx64(a) };
                RsqrtApproxF64[_x](a: u64) -> u64 { rsqrt_approx64(a) };
                Arith32[x](a: u32, b: u32, c: u32) -> u32 { arith32(x, a, b, c) };
                Arith64[x](a: u64, b: u64, c: u64) -> u64 { arith64(x, a, b, c) };
                Half[x](a: u32, b: u32, c: u32) -> u32 { half(x, a, b, c) };
                HalfCmp[x](a: u32, b: u32) -> bool { half_compare(x, a, b) };
                Testp32[x](a: u32) -> bool { testp(u64::from(a), x, false) };
                Testp64[x](a: u64) -> bool { testp(a, x, true) };
                Copysign32[_x](a: u32, b: u32) -> u32 { (a & 0x8000_0000) | (b & 0x7fff_ffff) };
                Copysign64[_x](a: u64, b: u64) -> u64 { (a & (1 << 63)) | (b & !(1 << 63)) };
                Packed16[x](a: u32, b: u32) -> u32 { packed16(x, a, b) };
                Cvt32To32[x](a: u32) -> u32 { convert(x, u64::from(a)) as u32 };
                Cvt32To64[x](a: u32) -> u64 { convert(x, u64::from(a)) };
                Cvt64To32[x](a: u64) -> u32 { convert(x, a) as u32 };
                Cvt64To64[x](a: u64) -> u64 { convert(x, a) };
                Fp8FromF32[x](a: u32, b: u32) -> u32 { fp8_from_f32(x, a, b) };
                Fp8FromF16[x](a: u32) -> u32 { fp8_from_f16(x, a) };
                F16FromFp8[x](a: u32) -> u32 { f16_from_fp8(x, a) };
                PackSat[x](a: u32, b: u32, c: u32) -> u32 { pack_saturated(x, a, b, c) };
                VideoParts[x](a: u32, b: u32, c: u32) -> u32 { video_parts(x, a, b, c) };
                Video[x](a: u32, b: u32, c: u32) -> u32 { video_op(x, a, b, c) };
                CvtPack[x](a: u32, b: u32) -> u32 { convert_pack(x, a, b) };
                MovP[_x](a: bool) -> bool { a };
                NotP[_x](a: bool) -> bool { !a };
                AndP[_x](a: bool, b: bool) -> bool { a & b };
                OrP[_x](a: bool, b: bool) -> bool { a | b };
                XorP[_x](a: bool, b: bool) -> bool { a ^ b };
                SelP[_x](a: bool, b: bool, c: bool) -> bool { if c { a } else { b } };
            }
        }
    };
}
pub(crate) use alu_table;

macro_rules! define_alu {
    (wide { $($wn:ident[$wx:ident]($($wa:ident: $wt:ident),*) -> $wr:ident $wb:block;)* }
     plain { $($pn:ident[$px:ident]($($pa:ident: $pt:ident),*) -> $pr:ident $pb:block;)* }) => {
        /// A lane operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        #[repr(u16)]
        pub enum Alu { $($wn,)* $($pn,)* }

        impl Alu {

            /// Classes of the operands.
            pub fn operands(self) -> &'static [Class] {
                match self {
                    $(Alu::$wn => &[$(class_of!($wt)),*],)*
                    $(Alu::$pn => &[$(class_of!($pt)),*],)*
                }
            }

            /// Class of the result.
            pub fn result(self) -> Class {
                match self {
                    $(Alu::$wn => class_of!($wr),)*
                    $(Alu::$pn => class_of!($pr),)*
                }
            }
        }
    };
}

macro_rules! class_of {
    (u32) => {
        Class::W
    };
    (i32) => {
        Class::W
    };
    (f32) => {
        Class::W
    };
    (u64) => {
        Class::D
    };
    (i64) => {
        Class::D
    };
    (f64) => {
        Class::D
    };
    (bool) => {
        Class::P
    };
}

use super::Class;
alu_table!(define_alu);
