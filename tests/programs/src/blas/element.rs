//! Element types: how numbers lie in memory.

use half::{bf16, f16};

/// A complex number; a real one has no imaginary part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct C64 {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl C64 {
    pub const ZERO: C64 = C64 { re: 0.0, im: 0.0 };

    pub fn real(re: f64) -> C64 {
        C64 { re, im: 0.0 }
    }

    pub fn conj(self) -> C64 {
        C64 {
            re: self.re,
            im: -self.im,
        }
    }

    pub fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }

    pub fn near(self, want: C64, bound: f64) -> bool {
        (self.re - want.re).abs() <= bound && (self.im - want.im).abs() <= bound
    }

    /// The same bits, up to the payload of NaNs.
    pub fn same(self, other: C64) -> bool {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
        same(self.re, other.re) && same(self.im, other.im)
    }
}

impl std::ops::Add for C64 {
    type Output = C64;
    fn add(self, b: C64) -> C64 {
        C64 {
            re: self.re + b.re,
            im: self.im + b.im,
        }
    }
}

impl std::ops::Sub for C64 {
    type Output = C64;
    fn sub(self, b: C64) -> C64 {
        C64 {
            re: self.re - b.re,
            im: self.im - b.im,
        }
    }
}

impl std::ops::Mul for C64 {
    type Output = C64;
    fn mul(self, b: C64) -> C64 {
        C64 {
            re: self.re * b.re - self.im * b.im,
            im: self.re * b.im + self.im * b.re,
        }
    }
}

/// `cudaDataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Type {
    F32 = 0,
    F64 = 1,
    F16 = 2,
    I8 = 3,
    C32 = 4,
    C64 = 5,
    Ci8 = 7,
    I32 = 10,
    Bf16 = 14,
}

impl Type {
    pub fn bytes(self) -> usize {
        match self {
            Type::I8 => 1,
            Type::F16 | Type::Bf16 | Type::Ci8 => 2,
            Type::F32 | Type::I32 => 4,
            Type::F64 | Type::C32 => 8,
            Type::C64 => 16,
        }
    }

    pub fn is_complex(self) -> bool {
        matches!(self, Type::C32 | Type::C64 | Type::Ci8)
    }

    pub fn is_integer(self) -> bool {
        matches!(self, Type::I8 | Type::Ci8 | Type::I32)
    }

    /// Relative error of one rounding to it.
    pub fn epsilon(self) -> f64 {
        match self {
            Type::F16 => 2f64.powi(-11),
            Type::Bf16 => 2f64.powi(-8),
            Type::F32 | Type::C32 => 2f64.powi(-24),
            Type::F64 | Type::C64 => 2f64.powi(-53),
            Type::I8 | Type::Ci8 | Type::I32 => 0.0,
        }
    }

    pub fn encode(self, v: C64) -> Vec<u8> {
        match self {
            Type::F16 => f16::from_f64(v.re).to_le_bytes().to_vec(),
            Type::Bf16 => bf16::from_f64(v.re).to_le_bytes().to_vec(),
            Type::F32 => (v.re as f32).to_le_bytes().to_vec(),
            Type::F64 => v.re.to_le_bytes().to_vec(),
            Type::I8 => vec![v.re as i8 as u8],
            Type::I32 => (v.re as i32).to_le_bytes().to_vec(),
            Type::Ci8 => vec![v.re as i8 as u8, v.im as i8 as u8],
            Type::C32 => [(v.re as f32).to_le_bytes(), (v.im as f32).to_le_bytes()].concat(),
            Type::C64 => [v.re.to_le_bytes(), v.im.to_le_bytes()].concat(),
        }
    }

    pub fn decode(self, raw: &[u8]) -> C64 {
        let array = |at: usize| -> [u8; 4] { std::array::from_fn(|i| raw[at + i]) };
        let long = |at: usize| -> [u8; 8] { std::array::from_fn(|i| raw[at + i]) };
        let float = |at| f64::from(f32::from_le_bytes(array(at)));
        let double = |at| f64::from_le_bytes(long(at));
        match self {
            Type::F16 => C64::real(f16::from_le_bytes([raw[0], raw[1]]).to_f64()),
            Type::Bf16 => C64::real(bf16::from_le_bytes([raw[0], raw[1]]).to_f64()),
            Type::F32 => C64::real(float(0)),
            Type::F64 => C64::real(double(0)),
            Type::I8 => C64::real(f64::from(raw[0] as i8)),
            Type::I32 => C64::real(f64::from(i32::from_le_bytes(array(0)))),
            Type::Ci8 => C64 {
                re: f64::from(raw[0] as i8),
                im: f64::from(raw[1] as i8),
            },
            Type::C32 => C64 {
                re: float(0),
                im: float(4),
            },
            Type::C64 => C64 {
                re: double(0),
                im: double(8),
            },
        }
    }

    /// The nearest number that it has.
    pub fn round(self, v: C64) -> C64 {
        self.decode(&self.encode(v))
    }
}
