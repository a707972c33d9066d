//! Unsigned integers of any size: the plain way to exact sums, products, quotients and roots.

use std::cmp::Ordering;

/// Words of 32 bits, the lowest first, without zeros at the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Big(Vec<u32>);

impl Big {
    /// From a number.
    pub fn from(v: u128) -> Big {
        Big((0..4).map(|k| (v >> (32 * k)) as u32).collect()).trim()
    }

    fn trim(mut self) -> Big {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    /// Bits up to the highest that is set.
    pub fn bits(&self) -> u32 {
        match self.0.last() {
            None => 0,
            Some(top) => 32 * self.0.len() as u32 - top.leading_zeros(),
        }
    }

    /// Bit `k`.
    pub fn bit(&self, k: u32) -> bool {
        self.0
            .get(k as usize / 32)
            .is_some_and(|w| w >> (k % 32) & 1 != 0)
    }

    /// Whether any of the lowest `k` bits is set.
    pub fn any_below(&self, k: u32) -> bool {
        (0..k.min(self.bits())).any(|i| self.bit(i))
    }

    /// `self * 2^k`.
    pub fn shl(&self, k: u32) -> Big {
        let mut out = vec![0u32; k as usize / 32];
        let mut carry = 0u64;
        for w in &self.0 {
            carry |= u64::from(*w) << (k % 32);
            out.push(carry as u32);
            carry >>= 32;
        }
        out.push(carry as u32);
        Big(out).trim()
    }

    /// `self / 2^k`, cut.
    pub fn shr(&self, k: u32) -> Big {
        let skip = k as usize / 32;
        let word = |i: usize| u64::from(self.0.get(i).copied().unwrap_or(0));
        Big((skip..self.0.len().max(skip))
            .map(|i| ((word(i) | word(i + 1) << 32) >> (k % 32)) as u32)
            .collect())
        .trim()
    }

    /// `self + o`.
    pub fn add(&self, o: &Big) -> Big {
        let mut out = Vec::new();
        let mut carry = 0u64;
        for i in 0..self.0.len().max(o.0.len()) {
            carry += u64::from(self.0.get(i).copied().unwrap_or(0));
            carry += u64::from(o.0.get(i).copied().unwrap_or(0));
            out.push(carry as u32);
            carry >>= 32;
        }
        out.push(carry as u32);
        Big(out).trim()
    }

    /// `self - o`, where `self` is not less.
    pub fn sub(&self, o: &Big) -> Big {
        let mut out = Vec::new();
        let mut borrow = 0i64;
        for (i, w) in self.0.iter().enumerate() {
            let d = i64::from(*w) - i64::from(o.0.get(i).copied().unwrap_or(0)) - borrow;
            out.push(d as u32);
            borrow = i64::from(d < 0);
        }
        Big(out).trim()
    }

    /// `self * o`.
    pub fn mul(&self, o: &Big) -> Big {
        let mut out = vec![0u32; self.0.len() + o.0.len() + 1];
        for (i, a) in self.0.iter().enumerate() {
            let mut carry = 0u64;
            for (j, b) in o.0.iter().enumerate() {
                carry += u64::from(*a) * u64::from(*b) + u64::from(out[i + j]);
                out[i + j] = carry as u32;
                carry >>= 32;
            }
            out[i + o.0.len()] = carry as u32;
        }
        Big(out).trim()
    }

    /// Quotient and whether something remains.
    pub fn div(&self, o: &Big) -> (Big, bool) {
        let mut quotient = vec![0u32; self.0.len() + 1];
        let mut rest = Big::from(0);
        for k in (0..self.bits()).rev() {
            rest = rest.shl(1);
            if self.bit(k) {
                rest = rest.add(&Big::from(1));
            }
            if rest >= *o {
                rest = rest.sub(o);
                quotient[k as usize / 32] |= 1 << (k % 32);
            }
        }
        (Big(quotient).trim(), rest.bits() > 0)
    }

    /// Square root, cut, and whether something remains.
    pub fn sqrt(&self) -> (Big, bool) {
        let mut root = Big::from(0);
        for k in (0..=self.bits() / 2).rev() {
            let next = root.add(&Big::from(1).shl(k));
            if next.mul(&next) <= *self {
                root = next;
            }
        }
        let exact = root.mul(&root) == *self;
        (root, !exact)
    }

    /// The lowest 128 bits.
    pub fn low(&self) -> u128 {
        (0..4).fold(0, |v, k| {
            v | u128::from(self.0.get(k).copied().unwrap_or(0)) << (32 * k)
        })
    }
}

impl PartialOrd for Big {
    fn partial_cmp(&self, o: &Big) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}

impl Ord for Big {
    fn cmp(&self, o: &Big) -> Ordering {
        self.0
            .len()
            .cmp(&o.0.len())
            .then_with(|| self.0.iter().rev().cmp(o.0.iter().rev()))
    }
}
