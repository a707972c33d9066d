//! The few OpenCL calls that the measurements need, from the ICD loader at run time.
#![allow(unsafe_code)] // a C library

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};

use anyhow::{Context as _, Result, bail, ensure};

type Handle = *mut c_void;

/// OpenCL 1.2 specification, appendix "cl.h".
const DEVICE_TYPE_ALL: u64 = 0xffff_ffff;
const DEVICE_NAME: u32 = 0x102b;
const PLATFORM_VERSION: u32 = 0x0901;
const MEM_READ_WRITE: u64 = 1;
const PROGRAM_BUILD_LOG: u32 = 0x1183;

macro_rules! library {
    ($($name:ident($($arg:ty),*) -> $ret:ty;)*) => {
        #[allow(non_snake_case)]
        struct Library {
            $($name: unsafe extern "C" fn($($arg),*) -> $ret,)*
        }

        impl Library {
            fn open() -> Result<Library> {
                // SAFETY: the name is a C string; loading runs the library's initialisers only.
                let library = unsafe { libc::dlopen(c"libOpenCL.so.1".as_ptr(), libc::RTLD_NOW) };
                ensure!(!library.is_null(), "libOpenCL.so.1 is not installed");
                Ok(Library {
                    $($name: {
                        let name = concat!(stringify!($name), "\0");
                        // SAFETY: the library is open and stays so; the name ends with a zero.
                        let at = unsafe { libc::dlsym(library, name.as_ptr().cast()) };
                        ensure!(!at.is_null(), "libOpenCL.so.1 has no {}", stringify!($name));
                        // SAFETY: the function of this name has this type in the specification.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) -> $ret>(at) }
                    },)*
                })
            }
        }
    };
}

library! {
    clGetPlatformIDs(u32, *mut Handle, *mut u32) -> c_int;
    clGetPlatformInfo(Handle, u32, usize, *mut c_void, *mut usize) -> c_int;
    clGetDeviceIDs(Handle, u64, u32, *mut Handle, *mut u32) -> c_int;
    clGetDeviceInfo(Handle, u32, usize, *mut c_void, *mut usize) -> c_int;
    clCreateContext(*const isize, u32, *const Handle, *const c_void, *mut c_void, *mut c_int) -> Handle;
    clCreateCommandQueue(Handle, Handle, u64, *mut c_int) -> Handle;
    clCreateProgramWithSource(Handle, u32, *const *const c_char, *const usize, *mut c_int) -> Handle;
    clBuildProgram(Handle, u32, *const Handle, *const c_char, *const c_void, *mut c_void) -> c_int;
    clGetProgramBuildInfo(Handle, Handle, u32, usize, *mut c_void, *mut usize) -> c_int;
    clCreateKernel(Handle, *const c_char, *mut c_int) -> Handle;
    clSetKernelArg(Handle, u32, usize, *const c_void) -> c_int;
    clCreateBuffer(Handle, u64, usize, *mut c_void, *mut c_int) -> Handle;
    clEnqueueWriteBuffer(Handle, Handle, u32, usize, usize, *const c_void, u32, *const Handle, *mut Handle) -> c_int;
    clEnqueueReadBuffer(Handle, Handle, u32, usize, usize, *mut c_void, u32, *const Handle, *mut Handle) -> c_int;
    clEnqueueNDRangeKernel(Handle, Handle, u32, *const usize, *const usize, *const usize, u32, *const Handle, *mut Handle) -> c_int;
    clFinish(Handle) -> c_int;
}

fn done(code: c_int, what: &str) -> Result<()> {
    ensure!(code == 0, "{what}: OpenCL error {code}");
    Ok(())
}

/// A device with one program.
pub struct OpenCl {
    library: Library,
    context: Handle,
    queue: Handle,
    program: Handle,
    /// Device and platform.
    pub name: String,
}

/// A buffer of the device.
#[derive(Clone, Copy)]
pub struct Buffer(Handle, usize);

/// A kernel of the program.
pub struct Kernel(Handle);

/// An argument.
pub enum Arg {
    /// A buffer.
    Buffer(Buffer),
    /// A word.
    Int(i32),
    /// A number.
    Float(f32),
}

impl OpenCl {
    /// The first device, with a program built for it.
    pub fn new(source: &str) -> Result<OpenCl> {
        let library = Library::open()?;
        let (mut platform, mut device) = (null_mut(), null_mut());
        let mut name = [0u8; 256];
        let mut version = [0u8; 256];
        let mut code = 0;
        // SAFETY: every pointer is to a variable of the type that the specification names, with
        // its size; handles come from the calls before, each checked.
        unsafe {
            done(
                (library.clGetPlatformIDs)(1, &mut platform, null_mut()),
                "clGetPlatformIDs",
            )?;
            done(
                (library.clGetDeviceIDs)(platform, DEVICE_TYPE_ALL, 1, &mut device, null_mut()),
                "clGetDeviceIDs",
            )?;
            let size = name.len() - 1;
            (library.clGetDeviceInfo)(
                device,
                DEVICE_NAME,
                size,
                name.as_mut_ptr().cast(),
                null_mut(),
            );
            (library.clGetPlatformInfo)(
                platform,
                PLATFORM_VERSION,
                size,
                version.as_mut_ptr().cast(),
                null_mut(),
            );
            let context =
                (library.clCreateContext)(null(), 1, &device, null(), null_mut(), &mut code);
            done(code, "clCreateContext")?;
            let queue = (library.clCreateCommandQueue)(context, device, 0, &mut code);
            done(code, "clCreateCommandQueue")?;
            let text = source.as_ptr().cast::<c_char>();
            let length = source.len();
            let program =
                (library.clCreateProgramWithSource)(context, 1, &text, &length, &mut code);
            done(code, "clCreateProgramWithSource")?;
            let options = c"-cl-mad-enable";
            if (library.clBuildProgram)(program, 1, &device, options.as_ptr(), null(), null_mut())
                != 0
            {
                let mut log = vec![0u8; 1 << 16];
                let size = log.len() - 1;
                (library.clGetProgramBuildInfo)(
                    program,
                    device,
                    PROGRAM_BUILD_LOG,
                    size,
                    log.as_mut_ptr().cast(),
                    null_mut(),
                );
                bail!("clBuildProgram: {}", text_of(&log));
            }
            let name = format!("{}, {}", text_of(&version), text_of(&name));
            Ok(OpenCl {
                library,
                context,
                queue,
                program,
                name,
            })
        }
    }

    /// A kernel by its name.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        let name = CString::new(name).context("kernel name")?;
        let mut code = 0;
        // SAFETY: the program is built, the name a C string.
        let kernel =
            unsafe { (self.library.clCreateKernel)(self.program, name.as_ptr(), &mut code) };
        done(code, "clCreateKernel")?;
        Ok(Kernel(kernel))
    }

    /// A buffer with these bytes.
    pub fn buffer(&self, bytes: &[u8]) -> Result<Buffer> {
        let mut code = 0;
        // SAFETY: as in `new`; the write waits until the bytes were read.
        unsafe {
            let buffer = (self.library.clCreateBuffer)(
                self.context,
                MEM_READ_WRITE,
                bytes.len(),
                null_mut(),
                &mut code,
            );
            done(code, "clCreateBuffer")?;
            let buffer = Buffer(buffer, bytes.len());
            self.write(buffer, bytes)?;
            Ok(buffer)
        }
    }

    fn write(&self, b: Buffer, bytes: &[u8]) -> Result<()> {
        // SAFETY: the buffer has as many bytes; the call waits until they were read.
        let code = unsafe {
            (self.library.clEnqueueWriteBuffer)(
                self.queue,
                b.0,
                1,
                0,
                bytes.len(),
                bytes.as_ptr().cast(),
                0,
                null(),
                null_mut(),
            )
        };
        done(code, "clEnqueueWriteBuffer")
    }

    /// A buffer's bytes.
    pub fn read(&self, b: Buffer) -> Result<Vec<u8>> {
        let mut bytes = vec![0u8; b.1];
        // SAFETY: the vector has as many bytes as the buffer; the call waits until they are written.
        let code = unsafe {
            (self.library.clEnqueueReadBuffer)(
                self.queue,
                b.0,
                1,
                0,
                b.1,
                bytes.as_mut_ptr().cast(),
                0,
                null(),
                null_mut(),
            )
        };
        done(code, "clEnqueueReadBuffer")?;
        Ok(bytes)
    }

    /// Runs a kernel to its end over `grid` groups of `block` items.
    pub fn launch(&self, k: &Kernel, grid: [u32; 2], block: [u32; 2], args: &[Arg]) -> Result<()> {
        for (n, a) in args.iter().enumerate() {
            let (size, at) = match a {
                Arg::Buffer(b) => (size_of::<Handle>(), (&raw const b.0).cast::<c_void>()),
                Arg::Int(v) => (4, (&raw const *v).cast()),
                Arg::Float(v) => (4, (&raw const *v).cast()),
            };
            // SAFETY: the pointer is to `size` bytes that live until the call returns.
            let code = unsafe { (self.library.clSetKernelArg)(k.0, n as u32, size, at) };
            done(code, "clSetKernelArg")?;
        }
        let local = block.map(|v| v as usize);
        let global = [0, 1].map(|k| grid[k] as usize * local[k]);
        // SAFETY: two dimensions, as the arrays have; the kernel has all its arguments.
        unsafe {
            let code = (self.library.clEnqueueNDRangeKernel)(
                self.queue,
                k.0,
                2,
                null(),
                global.as_ptr(),
                local.as_ptr(),
                0,
                null(),
                null_mut(),
            );
            done(code, "clEnqueueNDRangeKernel")?;
            done((self.library.clFinish)(self.queue), "clFinish")
        }
    }
}

fn text_of(bytes: &[u8]) -> String {
    CStr::from_bytes_until_nul(bytes)
        .map_or_else(|_| String::new(), |s| s.to_string_lossy().trim().to_owned())
}
