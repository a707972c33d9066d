//! A device with one module, for tests: every launch runs on it in optimised or
//! reference form.
#![allow(dead_code, missing_docs, clippy::unwrap_used)] // each test file uses some of it, and fails by a panic

pub mod fragments;
pub mod lanes;

use std::sync::Arc;

use vgpu_soft_gpu::{
    Abort, AddressSpace, Gpu, Isa, Jit, LaunchConfig, LaunchError, LaunchOptions, LaunchStats,
    LoadOptions, Module,
};

/// Plain data of device memory.
pub trait Data: Copy {
    fn put(self, out: &mut Vec<u8>);
    fn get(b: &[u8]) -> Self;
}

macro_rules! data {
    ($($t:ty)*) => {$(
        impl Data for $t {
            fn put(self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
            fn get(b: &[u8]) -> Self {
                Self::from_le_bytes(b.try_into().unwrap())
            }
        }
    )*};
}
data!(u8 i8 u16 i16 u32 i32 u64 i64 f32 f64);

/// An argument of a launch.
pub enum Arg {
    Ptr(u64),
    U32(u32),
    U64(u64),
    F32(f32),
}

pub struct Device {
    pub gpu: Arc<Gpu>,
    pub space: Arc<AddressSpace>,
    pub module: Module,
    pub reference: bool,
    pub jit: Jit,
}

/// The device in every form of execution: machine code, optimised and reference code
/// interpreted, and optimised code for lesser processors.
pub fn devices(ptx: &str) -> [Device; 5] {
    let forms = [
        (false, Jit::Always, None),
        (false, Jit::Never, None),
        (true, Jit::Never, None),
        (false, Jit::Never, Some(Isa::Avx2)),
        (false, Jit::Never, Some(Isa::Baseline)),
    ];
    forms.map(|(reference, jit, isa)| {
        let space = Arc::new(AddressSpace::new(1 << 30).unwrap());
        let module = Module::load(
            ptx.as_bytes(),
            &LoadOptions {
                isa,
                ..LoadOptions::default()
            },
            &space,
        )
        .unwrap_or_else(|e| panic!("{e}\n{ptx}"));
        Device {
            gpu: Gpu::new(2).unwrap(),
            space,
            module,
            reference,
            jit,
        }
    })
}

impl Device {
    pub fn upload<T: Data>(&self, v: &[T]) -> u64 {
        let mut bytes = Vec::new();
        v.iter().for_each(|x| x.put(&mut bytes));
        let a = self.space.alloc(bytes.len().max(1) as u64, 256).unwrap();
        self.space.write(a, &bytes).unwrap();
        a
    }

    pub fn download<T: Data>(&self, a: u64, n: usize) -> Vec<T> {
        let mut bytes = vec![0; n * size_of::<T>()];
        self.space.read(a, &mut bytes).unwrap();
        bytes.chunks(size_of::<T>()).map(T::get).collect()
    }

    pub fn try_launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: &[Arg],
    ) -> Result<LaunchStats, LaunchError> {
        let f = self
            .module
            .function(kernel)
            .unwrap_or_else(|| panic!("no kernel {kernel}"));
        let mut params = vec![0u8; f.param_bytes() as usize];
        assert_eq!(f.params().len(), args.len(), "arguments of {kernel}");
        for (p, a) in f.params().iter().zip(args) {
            let mut b = Vec::new();
            match a {
                Arg::Ptr(v) | Arg::U64(v) => v.put(&mut b),
                Arg::U32(v) => v.put(&mut b),
                Arg::F32(v) => v.put(&mut b),
            }
            assert_eq!(b.len(), p.size as usize, "size of an argument of {kernel}");
            params[p.offset as usize..][..b.len()].copy_from_slice(&b);
        }
        let cfg = LaunchConfig {
            grid,
            block,
            dynamic_shared_bytes: shared,
        };
        let opts = LaunchOptions {
            reference: self.reference,
            jit: self.jit,
            ..LaunchOptions::default()
        };
        self.gpu
            .launch(&self.space, &f, &cfg, &params, &opts, &Abort::new())
    }

    pub fn launch(&self, kernel: &str, grid: u32, block: u32, args: &[Arg]) -> LaunchStats {
        self.try_launch(kernel, [grid, 1, 1], [block, 1, 1], 0, args)
            .unwrap_or_else(|e| panic!("{kernel}: {e}"))
    }
}
