//! Libraries that programs load by themselves, and their kernels. Options are the driver's.

use cudarc::driver::sys::{CUkernel, CUlibrary};

use crate::abi::{Done, Host, In, Out, Text, exports, handle, local};
use crate::driver::Opaque;
use crate::mem::device_place;
use crate::module::{forget, remember};
use crate::runtime::{Runtime, enter};

/// The kernels of a library, where the driver can list them.
fn kernels(runtime: &Runtime, library: CUlibrary) -> Done<Vec<CUkernel>> {
    let count = local(|c| runtime.driver.cuLibraryGetKernelCount(c, library))?;
    let mut kernels = vec![std::ptr::null_mut(); count as usize];
    let place = Host::to(&mut kernels).out();
    runtime
        .driver
        .cuLibraryEnumerateKernels(place, count, library)?;
    Ok(kernels)
}

exports! {
    /// Loads a library from memory.
    fn cudaLibraryLoadData(
        out: Out<CUlibrary>, code: Host, names: In<i32>, values: In<Opaque>, count: u32,
        library_names: In<i32>, library_values: In<Opaque>, library_count: u32,
    ) {
        enter()?.driver.cuLibraryLoadData(
            out, code, names, values, count, library_names, library_values, library_count,
        )
    }

    /// Loads a library from a file.
    fn cudaLibraryLoadFromFile(
        out: Out<CUlibrary>, file: Text, names: In<i32>, values: In<Opaque>, count: u32,
        library_names: In<i32>, library_values: In<Opaque>, library_count: u32,
    ) {
        enter()?.driver.cuLibraryLoadFromFile(
            out, file, names, values, count, library_names, library_values, library_count,
        )
    }

    /// Unloads a library.
    fn cudaLibraryUnload(library: CUlibrary) {
        let runtime = enter()?;
        // Where the driver cannot list them, stale ones are refused by the driver.
        let kernels = kernels(runtime, library).unwrap_or_default();
        runtime.driver.cuLibraryUnload(library)?;
        forget(&kernels);
        Ok(())
    }

    /// A kernel of a library.
    fn cudaLibraryGetKernel(out: Out<CUkernel>, library: CUlibrary, name: Text) {
        let runtime = enter()?;
        out.check()?;
        let kernel = handle(|k| runtime.driver.cuLibraryGetKernel(k, library, name))?;
        remember(kernel);
        out.set(kernel)
    }

    /// How many kernels a library has.
    fn cudaLibraryGetKernelCount(count: Out<u32>, library: CUlibrary) {
        enter()?.driver.cuLibraryGetKernelCount(count, library)
    }

    /// The kernels of a library.
    fn cudaLibraryEnumerateKernels(out: Out<CUkernel>, count: u32, library: CUlibrary) {
        let runtime = enter()?;
        let all = kernels(runtime, library)?;
        for (i, kernel) in all.iter().take(count as usize).enumerate() {
            out.set_at(i, *kernel)?;
            remember(*kernel);
        }
        Ok(())
    }

    /// A variable of a library.
    fn cudaLibraryGetGlobal(out: Out<Opaque>, bytes: Out<usize>, library: CUlibrary, name: Text) {
        enter()?.driver.cuLibraryGetGlobal(device_place(out), bytes, library, name)
    }

    /// A managed variable of a library.
    fn cudaLibraryGetManaged(out: Out<Opaque>, bytes: Out<usize>, library: CUlibrary, name: Text) {
        enter()?.driver.cuLibraryGetManaged(device_place(out), bytes, library, name)
    }

    /// A function of a library that has the same address on all devices.
    fn cudaLibraryGetUnifiedFunction(out: Out<Opaque>, library: CUlibrary, name: Text) {
        enter()?.driver.cuLibraryGetUnifiedFunction(out, library, name)
    }
}
