//! Integer arithmetic (PTX ISA 9.7.1 and 9.7.2).

use crate::form::{Table, Want::Bits};
use crate::values::{HH, W, all, cut, integers, number, signed, some};

/// `(suffix, bits, signed, register type)`.
const TYPES: [(&str, u32, bool, &str); 6] = [
    ("u16", 16, false, "b16"),
    ("s16", 16, true, "b16"),
    ("u32", 32, false, "b32"),
    ("s32", 32, true, "b32"),
    ("u64", 64, false, "b64"),
    ("s64", 64, true, "b64"),
];

/// Adds the forms.
pub fn table(t: &mut Table) {
    t.section("Integer arithmetic");
    for (name, bits, is_signed, reg) in TYPES {
        let v = integers(bits);
        let two = all(&[v, v]);
        let three = some(&[v, v, v], 300);
        let n = move |x: u64| number(x, bits, is_signed);
        t.bits(&format!("add.{name}"), &[reg, reg], reg, &two, |i| {
            cut(n(i[0]) + n(i[1]), bits)
        });
        t.bits(&format!("sub.{name}"), &[reg, reg], reg, &two, |i| {
            cut(n(i[0]) - n(i[1]), bits)
        });
        let product = move |i: &[u64]| (n(i[0]), n(i[1]));
        // Products of 64 bits exceed 127 bits only where unsigned: split there.
        let low = move |i: &[u64]| {
            let (a, b) = product(i);
            cut(a.wrapping_mul(b), bits)
        };
        let high = move |i: &[u64]| {
            let (a, b) = product(i);
            if bits == 64 && !is_signed {
                ((i[0] as u128 * i[1] as u128) >> 64) as u64
            } else {
                cut((a * b) >> bits, bits)
            }
        };
        t.bits(&format!("mul.lo.{name}"), &[reg, reg], reg, &two, low);
        t.bits(&format!("mul.hi.{name}"), &[reg, reg], reg, &two, high);
        let plus = move |p: u64, c: u64| cut(i128::from(p) + i128::from(c), bits);
        t.bits(
            &format!("mad.lo.{name}"),
            &[reg, reg, reg],
            reg,
            &three,
            |i| plus(low(i), i[2]),
        );
        t.bits(
            &format!("mad.hi.{name}"),
            &[reg, reg, reg],
            reg,
            &three,
            |i| plus(high(i), i[2]),
        );
        if bits < 64 {
            let wide = if bits == 16 { "b32" } else { "b64" };
            t.bits(&format!("mul.wide.{name}"), &[reg, reg], wide, &two, |i| {
                cut(n(i[0]) * n(i[1]), 2 * bits)
            });
            let wider = some(&[v, v, integers(2 * bits)], 300);
            t.bits(
                &format!("mad.wide.{name}"),
                &[reg, reg, wide],
                wide,
                &wider,
                |i| cut(n(i[0]) * n(i[1]) + i128::from(i[2]), 2 * bits),
            );
        }
        t.bits(&format!("sad.{name}"), &[reg, reg, reg], reg, &three, |i| {
            cut((n(i[0]) - n(i[1])).abs() + n(i[2]), bits)
        });
        // Division by zero gives what the machine likes.
        let divisors: Vec<u64> = v.iter().copied().filter(|d| *d != 0).collect();
        let quotients = all(&[v, &divisors]);
        t.bits(&format!("div.{name}"), &[reg, reg], reg, &quotients, |i| {
            cut(n(i[0]) / n(i[1]), bits)
        });
        t.bits(&format!("rem.{name}"), &[reg, reg], reg, &quotients, |i| {
            cut(n(i[0]) % n(i[1]), bits)
        });
        t.bits(&format!("min.{name}"), &[reg, reg], reg, &two, |i| {
            cut(n(i[0]).min(n(i[1])), bits)
        });
        t.bits(&format!("max.{name}"), &[reg, reg], reg, &two, |i| {
            cut(n(i[0]).max(n(i[1])), bits)
        });
        if is_signed {
            let one = all(&[v]);
            t.bits(&format!("abs.{name}"), &[reg], reg, &one, |i| {
                cut(n(i[0]).abs(), bits)
            });
            t.bits(&format!("neg.{name}"), &[reg], reg, &one, |i| {
                cut(-n(i[0]), bits)
            });
        }
    }
    saturating(t);
    with_constants(t);
    carries(t);
    short_products(t);
    pairs(t);
    bit_fields(t);
    dot_products(t);
}

fn clamp(v: i128) -> u64 {
    cut(v.clamp(i32::MIN.into(), i32::MAX.into()), 32)
}

fn saturating(t: &mut Table) {
    let two = all(&[&W, &W]);
    let s = |v: u64| signed(v, 32);
    t.bits("add.sat.s32", &["b32", "b32"], "b32", &two, |i| {
        clamp(s(i[0]) + s(i[1]))
    });
    t.bits("sub.sat.s32", &["b32", "b32"], "b32", &two, |i| {
        clamp(s(i[0]) - s(i[1]))
    });
    let three = some(&[&W, &W, &W], 300);
    t.bits(
        "mad.hi.sat.s32",
        &["b32", "b32", "b32"],
        "b32",
        &three,
        |i| clamp(((s(i[0]) * s(i[1])) >> 32) + s(i[2])),
    );
}

/// One operand a constant, as compilers emit it.
fn with_constants(t: &mut Table) {
    for (name, bits, is_signed, reg) in TYPES {
        let v = integers(bits);
        let n = move |x: u64| number(x, bits, is_signed);
        let one = all(&[v]);
        for k in [1i128, 4, 7, 0x7f] {
            let c = move |r: i128| cut(r, bits);
            let code = format!(
                "add.{name} %x, %a, {k}; mul.lo.{name} %y, %a, {k}; div.{name} %z, %a, {k}; rem.{name} %w, %a, {k};"
            );
            t.code(
                &format!("add.{name}, mul.lo.{name}, div.{name}, rem.{name} by {k}"),
                &code,
                &[reg],
                &[reg; 4],
                &one,
                |i| {
                    let a = n(i[0]);
                    [a + k, a * k, a / k, a % k].map(|r| Bits(c(r))).to_vec()
                },
            );
        }
    }
}

fn carries(t: &mut Table) {
    for (name, bits, reg, sm) in [
        ("u32", 32, "b32", 50),
        ("s32", 32, "b32", 50),
        ("u64", 64, "b64", 50),
        ("s64", 64, "b64", 50),
    ] {
        t.needs(63, sm);
        let v = integers(bits);
        let four = some(&[v, v, v, v], 400);
        let wide = move |lo: u64, hi: u64| (u128::from(hi) << bits) | u128::from(lo);
        let split = move |v: u128| {
            let mask = (1u128 << bits) - 1;
            [(v & mask) as u64, (v >> bits & mask) as u64]
        };
        // Numbers of twice the size, and the carry out of them.
        t.code(
            &format!("add.cc.{name}, addc.cc.{name}, addc.{name}"),
            &format!("add.cc.{name} %x, %a, %b; addc.cc.{name} %y, %c, %e; addc.{name} %z, 0, 0;"),
            &[reg; 4],
            &[reg; 3],
            &four,
            |i| {
                let sum = wide(i[0], i[2]).wrapping_add(wide(i[1], i[3]));
                let carry = if bits == 32 {
                    sum >> 64 != 0
                } else {
                    sum < wide(i[0], i[2])
                };
                let [x, y] = split(sum);
                vec![Bits(x), Bits(y), Bits(carry.into())]
            },
        );
        t.code(
            &format!("sub.cc.{name}, subc.cc.{name}, subc.{name}"),
            &format!("sub.cc.{name} %x, %a, %b; subc.cc.{name} %y, %c, %e; subc.{name} %z, 5, 0;"),
            &[reg; 4],
            &[reg; 3],
            &four,
            |i| {
                let (a, b) = (wide(i[0], i[2]), wide(i[1], i[3]));
                let [x, y] = split(a.wrapping_sub(b));
                vec![Bits(x), Bits(y), Bits(5 - u64::from(a < b))]
            },
        );
        // The product of two numbers, added to one of twice the size.
        let is_signed = name.starts_with('s');
        t.code(
            &format!("mad.lo.cc.{name}, madc.hi.{name}"),
            &format!("mad.lo.cc.{name} %x, %a, %b, %c; madc.hi.{name} %y, %a, %b, %e;"),
            &[reg; 4],
            &[reg; 2],
            &four,
            |i| {
                let product = if is_signed {
                    (signed(i[0], bits) * signed(i[1], bits)) as u128
                } else {
                    u128::from(i[0]) * u128::from(i[1])
                };
                let [x, y] = split(product.wrapping_add(wide(i[2], i[3])));
                vec![Bits(x), Bits(y)]
            },
        );
        t.code(
            &format!("mad.hi.cc.{name}, madc.lo.cc.{name}, madc.hi.cc.{name}"),
            &format!(
                "mad.hi.cc.{name} %x, %a, %b, %c; madc.lo.cc.{name} %y, %a, %b, %e; madc.hi.cc.{name} %z, %c, %e, %a; addc.{name} %w, 0, 0;"
            ),
            &[reg; 4],
            &[reg; 4],
            &four,
            |i| {
                let mul = |a: u64, b: u64| {
                    if is_signed {
                        split((signed(a, bits) * signed(b, bits)) as u128)
                    } else {
                        split(u128::from(a) * u128::from(b))
                    }
                };
                let add = |a: u64, b: u64, carry: u64| {
                    let s = u128::from(a) + u128::from(b) + u128::from(carry);
                    split(s)
                };
                let [x, c] = add(mul(i[0], i[1])[1], i[2], 0);
                let [y, c] = add(mul(i[0], i[1])[0], i[3], c);
                let [z, c] = add(mul(i[2], i[3])[1], i[0], c);
                [x, y, z, c].map(Bits).to_vec()
            },
        );
    }
    t.needs(63, 50);
}

fn short_products(t: &mut Table) {
    let v = [
        0,
        1,
        0x7f_ffff,
        0x80_0000,
        0xff_ffff,
        0x1234_5678,
        0xffff_ffff,
        0x8000_0000,
    ];
    for (name, is_signed) in [("u32", false), ("s32", true)] {
        let n = move |x: u64| number(x & 0xff_ffff, 24, is_signed);
        let two = all(&[&v, &v]);
        let three = some(&[&v, &v, &W], 300);
        for (part, shift) in [("lo", 0), ("hi", 16)] {
            let p = move |i: &[u64]| cut((n(i[0]) * n(i[1])) >> shift, 32);
            t.bits(
                &format!("mul24.{part}.{name}"),
                &["b32", "b32"],
                "b32",
                &two,
                p,
            );
            t.bits(
                &format!("mad24.{part}.{name}"),
                &["b32", "b32", "b32"],
                "b32",
                &three,
                move |i| cut(i128::from(p(i)) + i128::from(i[2]), 32),
            );
        }
    }
    t.bits(
        "mad24.hi.sat.s32",
        &["b32", "b32", "b32"],
        "b32",
        &some(&[&v, &v, &W], 300),
        |i| {
            let n = |x: u64| signed(x & 0xff_ffff, 24);
            clamp(((n(i[0]) * n(i[1])) >> 16) + signed(i[2], 32))
        },
    );
}

fn pairs(t: &mut Table) {
    let two = all(&[&HH, &HH]);
    t.needs(80, 90);
    for (name, is_signed) in [("u16x2", false), ("s16x2", true)] {
        let each = move |i: &[u64], f: &dyn Fn(i128, i128) -> i128| {
            let part = |s: u32| {
                let n = |v: u64| number(v >> s & 0xffff, 16, is_signed);
                cut(f(n(i[0]), n(i[1])), 16) << s
            };
            part(0) | part(16)
        };
        t.bits(&format!("add.{name}"), &["b32", "b32"], "b32", &two, |i| {
            each(i, &|a, b| a + b)
        });
        t.bits(&format!("min.{name}"), &["b32", "b32"], "b32", &two, |i| {
            each(i, &|a, b| a.min(b))
        });
        t.bits(&format!("max.{name}"), &["b32", "b32"], "b32", &two, |i| {
            each(i, &|a, b| a.max(b))
        });
        if is_signed {
            t.bits("min.relu.s16x2", &["b32", "b32"], "b32", &two, |i| {
                each(i, &|a, b| a.min(b).max(0))
            });
            t.bits("max.relu.s16x2", &["b32", "b32"], "b32", &two, |i| {
                each(i, &|a, b| a.max(b).max(0))
            });
        }
    }
    let two = all(&[&W, &W]);
    let s = |v: u64| signed(v, 32);
    t.bits("min.relu.s32", &["b32", "b32"], "b32", &two, |i| {
        cut(s(i[0]).min(s(i[1])).max(0), 32)
    });
    t.bits("max.relu.s32", &["b32", "b32"], "b32", &two, |i| {
        cut(s(i[0]).max(s(i[1])).max(0), 32)
    });
    t.needs(63, 50);
}

fn bit_fields(t: &mut Table) {
    for (bits, reg) in [(32u32, "b32"), (64, "b64")] {
        let v = integers(bits);
        let one = all(&[v]);
        let count = move |v: u64| (0..bits).filter(|k| v >> k & 1 != 0).count() as u64;
        t.bits(&format!("popc.b{bits}"), &[reg], "b32", &one, |i| {
            count(i[0])
        });
        t.bits(&format!("clz.b{bits}"), &[reg], "b32", &one, |i| {
            (0..bits).rev().take_while(|k| i[0] >> k & 1 == 0).count() as u64
        });
        t.bits(&format!("brev.b{bits}"), &[reg], reg, &one, |i| {
            (0..bits).fold(0, |r, k| r | (i[0] >> k & 1) << (bits - 1 - k))
        });
        for is_signed in [false, true] {
            let name = format!("{}{bits}", if is_signed { 's' } else { 'u' });
            let find = move |v: u64| {
                let v = if is_signed && v >> (bits - 1) & 1 != 0 {
                    cut(!i128::from(v), bits)
                } else {
                    v
                };
                (0..bits).rev().find(|k| v >> k & 1 != 0)
            };
            t.bits(&format!("bfind.{name}"), &[reg], "b32", &one, |i| {
                find(i[0]).map_or(0xffff_ffff, u64::from)
            });
            t.bits(
                &format!("bfind.shiftamt.{name}"),
                &[reg],
                "b32",
                &one,
                |i| find(i[0]).map_or(0xffff_ffff, |k| u64::from(bits - 1 - k)),
            );
            // Position and length count with their lowest eight bits.
            let places = [0, 1, 5, 31, 32, 40, 63, 64, 255, 256 + 3];
            let three = some(&[v, &places, &places], 500);
            t.bits(
                &format!("bfe.{name}"),
                &[reg, "b32", "b32"],
                reg,
                &three,
                move |i| {
                    let (pos, len) = ((i[1] & 0xff) as u32, (i[2] & 0xff) as u32);
                    let top = bits - 1;
                    let sign = if !is_signed || len == 0 {
                        0
                    } else {
                        i[0] >> (pos + len - 1).min(top) & 1
                    };
                    (0..bits).fold(0, |r, k| {
                        let bit = if k < len && pos + k <= top {
                            i[0] >> (pos + k) & 1
                        } else {
                            sign
                        };
                        r | bit << k
                    })
                },
            );
        }
        let places = [0, 1, 5, 31, 32, 63, 64, 255, 256 + 3];
        let four = some(&[v, v, &places, &places], 500);
        t.bits(
            &format!("bfi.b{bits}"),
            &[reg, reg, "b32", "b32"],
            reg,
            &four,
            move |i| {
                let (pos, len) = ((i[2] & 0xff) as u32, (i[3] & 0xff) as u32);
                (0..bits).fold(0, |r, k| {
                    let bit = if k >= pos && k - pos < len {
                        i[0] >> (k - pos) & 1
                    } else {
                        i[1] >> k & 1
                    };
                    r | bit << k
                })
            },
        );
        for (pos, len) in [(0, 8), (4, 12), (24, 8), (31, 1), (16, 32), (0, 0)] {
            let code = format!(
                "bfe.u{bits} %x, %a, {pos}, {len}; bfe.s{bits} %y, %a, {pos}, {len}; bfi.b{bits} %z, 5, %a, {pos}, {len};"
            );
            t.code(
                &format!("bfe.u{bits}, bfe.s{bits}, bfi.b{bits} at {pos}, {len}"),
                &code,
                &[reg],
                &[reg; 3],
                &one,
                move |i| {
                    let kept = (bits - pos).min(len);
                    let field = if len == 0 {
                        0
                    } else {
                        i[0] >> pos & ((1u64 << kept) - 1)
                    };
                    let sign = len > 0 && i[0] >> (pos + len - 1).min(bits - 1) & 1 != 0;
                    let high = if sign && kept < bits {
                        cut(-1i128 << kept, bits)
                    } else {
                        0
                    };
                    let mask = if len == 0 {
                        0
                    } else {
                        ((1u64 << kept) - 1) << pos
                    };
                    vec![
                        Bits(field),
                        Bits(field | high),
                        Bits(i[0] & !mask | 5 << pos & mask),
                    ]
                },
            );
        }
    }
    t.needs(70, 70);
    let places = [0, 1, 5, 31, 32, 33, 64, 0xffff_ffff];
    for wrap in [false, true] {
        let mode = if wrap { "wrap" } else { "clamp" };
        t.needs(76, 70);
        t.bits(
            &format!("bmsk.{mode}.b32"),
            &["b32", "b32"],
            "b32",
            &all(&[&places, &places]),
            move |i| {
                let (a, b) = if wrap {
                    (i[0] & 31, i[1] & 31)
                } else {
                    (i[0], i[1])
                };
                let b = b.min(64);
                (0..32)
                    .filter(|k| *k >= a && *k < a.saturating_add(b))
                    .fold(0, |r, k| r | 1 << k)
            },
        );
        for is_signed in [false, true] {
            let name = if is_signed { "s32" } else { "u32" };
            t.bits(
                &format!("szext.{mode}.{name}"),
                &["b32", "b32"],
                "b32",
                &all(&[&W, &places]),
                move |i| {
                    let n = if wrap { i[1] & 31 } else { i[1].min(32) };
                    let kept = cut(i[0].into(), n as u32);
                    let negative = is_signed && n > 0 && i[0] >> (n - 1) & 1 != 0;
                    if negative {
                        cut((-1i128 << n) | i128::from(kept), 32)
                    } else {
                        kept
                    }
                },
            );
        }
    }
    t.needs(63, 50);
    let offsets = [0, 1, 2, 5, 32, 0xffff_ffff, 0xffff_fffe, 0xffff_ffe0];
    t.bits(
        "fns.b32",
        &["b32", "b32", "b32"],
        "b32",
        &all(&[&W, &[0, 1, 7, 30, 31], &offsets]),
        |i| {
            // The n-th set bit from the base on, upwards or downwards; 0: the base's own bit.
            let (mask, base, n) = (i[0], i[1] as i64, signed(i[2], 32) as i64);
            let set = |k: i64| (0..32).contains(&k) && mask >> k & 1 != 0;
            if n == 0 {
                return if set(base) { base as u64 } else { 0xffff_ffff };
            }
            let mut left = n.abs();
            let mut k = base;
            while (0..32).contains(&k) {
                if set(k) {
                    left -= 1;
                    if left == 0 {
                        return k as u64;
                    }
                }
                k += n.signum();
            }
            0xffff_ffff
        },
    );
}

fn dot_products(t: &mut Table) {
    t.needs(63, 61);
    let v = [
        0,
        0x0102_03ff,
        0x7f80_ff01,
        0x8080_8080,
        0xffff_ffff,
        0x1234_8765,
    ];
    for (at, a_signed) in [("u32", false), ("s32", true)] {
        for (bt, b_signed) in [("u32", false), ("s32", true)] {
            let three = all(&[&v, &v, &W]);
            t.bits(
                &format!("dp4a.{at}.{bt}"),
                &["b32"; 3],
                "b32",
                &three,
                move |i| {
                    let sum: i128 = (0..4)
                        .map(|k| {
                            number(i[0] >> (8 * k) & 0xff, 8, a_signed)
                                * number(i[1] >> (8 * k) & 0xff, 8, b_signed)
                        })
                        .sum();
                    cut(i128::from(i[2]) + sum, 32)
                },
            );
            for (half, first) in [("lo", 0), ("hi", 2)] {
                t.bits(
                    &format!("dp2a.{half}.{at}.{bt}"),
                    &["b32"; 3],
                    "b32",
                    &three,
                    move |i| {
                        let sum: i128 = (0..2)
                            .map(|k| {
                                number(i[0] >> (16 * k) & 0xffff, 16, a_signed)
                                    * number(i[1] >> (8 * (k + first)) & 0xff, 8, b_signed)
                            })
                            .sum();
                        cut(i128::from(i[2]) + sum, 32)
                    },
                );
            }
        }
    }
    t.needs(63, 50);
}
