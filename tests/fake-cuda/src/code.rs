//! Modules, kernels and launches.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::null;

use cudarc::driver::sys::{CUdeviceptr, CUfunction, CUlaunchConfig, CUmodule, CUstream};

use crate::state::{Function, INVALID_HANDLE, INVALID_VALUE, Module, Op, State, call, die};

const INVALID_PTX: u32 = 218;
const NOT_FOUND: u32 = 500;
const COOPERATIVE_LAUNCH_TOO_LARGE: u32 = 720;

/// Writes a log into the buffer that two options describe.
pub fn write_log(options: &[(u32, usize)], buffer: u32, size: u32, text: &str) {
    let value = |number| options.iter().find(|(o, _)| *o == number).map(|(_, v)| *v);
    if let (Some(at), Some(bytes)) = (value(buffer), value(size)) {
        let text = &text.as_bytes()[..text.len().min(bytes.saturating_sub(1))];
        // SAFETY: the caller says that so many bytes are there.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), at as *mut u8, text.len());
            *(at as *mut u8).add(text.len()) = 0;
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut CUmodule,
    image: *const c_void,
    count: c_uint,
    options: *mut c_uint,
    values: *mut *mut c_void,
) -> u32 {
    call("cuModuleLoadDataEx", |s| {
        let ctx = s.current()?;
        s.must_be_idle("cuModuleLoadDataEx", ctx);
        // SAFETY: NVIDIA's contract: both lists have `count` entries.
        let options: Vec<(u32, usize)> = (0..count as usize)
            .map(|i| unsafe { (*options.add(i), *values.add(i) as usize) })
            .collect();
        if options.iter().any(|(o, _)| matches!(o, 17..=19 | 25..=28)) {
            die("an option whose value is an address of the guest's");
        }
        // SAFETY: NVIDIA's contract: text ends with a NUL.
        let text = unsafe { CStr::from_ptr(image.cast()) }
            .to_string_lossy()
            .into_owned();
        write_log(
            &options,
            3,
            4,
            &format!("fake info: {} options", options.len() - 4),
        );
        if text.contains("broken") {
            write_log(
                &options,
                5,
                6,
                "ptxas application ptx input, line 3; fatal   : Parsing error near 'broken'",
            );
            return Err(INVALID_PTX);
        }
        let handle = s.handle();
        let mut globals = BTreeMap::new();
        for line in text.lines() {
            // `.global .align A .b8 name[BYTES];`
            let line = line.replace(" .attribute(.managed)", "");
            let words: Vec<&str> = line.split([' ', '[', ']', ';']).collect();
            if let [".global", ".align", _, ".b8", name, bytes, ..] = words[..] {
                let bytes = bytes
                    .parse()
                    .unwrap_or_else(|_| die("a global variable of no size"));
                globals.insert(name.to_owned(), s.allocate(bytes, true)?);
            }
        }
        s.modules.insert(handle, Module { ctx, text, globals });
        // SAFETY: NVIDIA's contract.
        unsafe { *module = handle as CUmodule };
        Ok(())
    })
}

fn module_of(s: &State, module: CUmodule) -> Result<&Module, u32> {
    s.current()?;
    match s.modules.get(&(module as usize)) {
        None => die(&format!("{module:?} is no module")),
        Some(module) => Ok(module),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuModuleUnload(module: CUmodule) -> u32 {
    call("cuModuleUnload", |s| {
        let ctx = module_of(s, module)?.ctx;
        s.must_be_idle("cuModuleUnload", ctx);
        let Some(gone) = s.modules.remove(&(module as usize)) else {
            return Ok(());
        };
        s.functions.retain(|_, f| f.module != module as usize);
        s.memory
            .retain(|address, _| !gone.globals.values().any(|a| a == address));
        Ok(())
    })
}

/// Names of the kernels in PTX, with the lists of their parameters.
fn entries(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(".entry ").skip(1).map(|rest| {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| c.is_whitespace() || c == '(' || c == '{');
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let list = rest.trim_start().strip_prefix('(');
        (
            name,
            list.and_then(|l| l.split_once(')')).map_or("", |l| l.0),
        )
    })
}

/// The handle of a kernel: the same for the same one.
fn lookup(s: &mut State, module: CUmodule, name: String) -> Result<usize, u32> {
    let text = &module_of(s, module)?.text;
    let list = entries(text)
        .find(|(entry, _)| *entry == name)
        .map(|(_, list)| list)
        .ok_or(NOT_FOUND)?;
    let mut params = Vec::new();
    let mut end = 0usize;
    for param in list.split(',').filter(|p| !p.trim().is_empty()) {
        let bytes = if param.contains("64") { 8 } else { 4 };
        params.push((end.next_multiple_of(bytes), bytes));
        end = end.next_multiple_of(bytes) + bytes;
    }
    let known = s
        .functions
        .iter()
        .find(|(_, f)| f.module == module as usize && f.name == name)
        .map(|(h, _)| *h);
    Ok(known.unwrap_or_else(|| {
        let handle = s.handle();
        let module = module as usize;
        s.functions.insert(
            handle,
            Function {
                module,
                name,
                params,
            },
        );
        handle
    }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> u32 {
    call("cuModuleGetFunction", |s| {
        // SAFETY: NVIDIA's contract.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        let handle = lookup(s, module, name)?;
        // SAFETY: NVIDIA's contract.
        unsafe { *function = handle as CUfunction };
        Ok(())
    })
}

/// Names of a module's kernels, as its text declares them.
fn kernels(s: &State, module: CUmodule) -> Result<Vec<String>, u32> {
    let text = &module_of(s, module)?.text;
    Ok(entries(text).map(|(name, _)| name.to_owned()).collect())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunctionCount(count: *mut c_uint, module: CUmodule) -> u32 {
    call("cuModuleGetFunctionCount", |s| {
        let found = kernels(s, module)?.len();
        // SAFETY: NVIDIA's contract.
        unsafe { *count = found as c_uint };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleEnumerateFunctions(
    functions: *mut CUfunction,
    count: c_uint,
    module: CUmodule,
) -> u32 {
    call("cuModuleEnumerateFunctions", |s| {
        for (i, name) in kernels(s, module)?
            .into_iter()
            .take(count as usize)
            .enumerate()
        {
            let handle = lookup(s, module, name)?;
            // SAFETY: NVIDIA's contract.
            unsafe { *functions.add(i) = handle as CUfunction };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetName(name: *mut *const c_char, function: CUfunction) -> u32 {
    call("cuFuncGetName", |s| {
        let text = CString::new(function_of(s, function)?.name.as_str());
        // Never freed, as few as they are: the caller may keep it as long as the kernel.
        let text = text.map_or(null(), |t| t.into_raw().cast_const());
        // SAFETY: NVIDIA's contract.
        unsafe { *name = text };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetGlobal_v2(
    address: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> u32 {
    call("cuModuleGetGlobal_v2", |s| {
        // SAFETY: NVIDIA's contract.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        let at = *module_of(s, module)?.globals.get(&name).ok_or(NOT_FOUND)?;
        let size = s.memory.get(&at).map_or(0, |m| m.bytes.len());
        // SAFETY: NVIDIA's contract.
        unsafe { (*address, *bytes) = (at, size) };
        Ok(())
    })
}

/// Only `CU_POINTER_ATTRIBUTE_IS_MANAGED` of a variable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuPointerGetAttribute(
    value: *mut c_void,
    attribute: c_uint,
    at: CUdeviceptr,
) -> u32 {
    call("cuPointerGetAttribute", |s| {
        if attribute != 8 {
            die("an attribute of a pointer that is not known here");
        }
        s.current()?;
        let managed = s.modules.values().any(|m| {
            let of = |name: &str| m.globals.iter().any(|(n, a)| n == name && *a == at);
            let mut lines = m
                .text
                .lines()
                .filter(|l| l.contains(".attribute(.managed)"));
            lines.any(|l| l.split([' ', '[']).any(of))
        });
        // SAFETY: NVIDIA's contract: a place for a number.
        unsafe { value.cast::<u32>().write(u32::from(managed)) };
        Ok(())
    })
}

fn function_of(s: &State, function: CUfunction) -> Result<&Function, u32> {
    s.current()?;
    match s.functions.get(&(function as usize)) {
        None => die(&format!("{function:?} is no kernel")),
        Some(function) => Ok(function),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetAttribute(
    value: *mut c_int,
    attribute: c_uint,
    function: CUfunction,
) -> u32 {
    call("cuFuncGetAttribute", |s| {
        function_of(s, function)?;
        if attribute > 9 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: NVIDIA's contract.
        unsafe { *value = if attribute == 0 { 1024 } else { 0 } };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuFuncSetAttribute(
    function: CUfunction,
    attribute: c_uint,
    _value: c_int,
) -> u32 {
    call("cuFuncSetAttribute", |s| {
        function_of(s, function)?;
        if matches!(attribute, 8 | 9) {
            Ok(())
        } else {
            Err(INVALID_VALUE)
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuFuncGetParamInfo(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    bytes: *mut usize,
) -> u32 {
    call("cuFuncGetParamInfo", |s| {
        let (at, size) = *function_of(s, function)?
            .params
            .get(index)
            .ok_or(INVALID_VALUE)?;
        // SAFETY: NVIDIA's contract.
        unsafe { (*offset, *bytes) = (at, size) };
        Ok(())
    })
}

/// The parameter buffer of a launch.
unsafe fn launch_params(extra: *mut *mut c_void) -> Vec<u8> {
    let (mut at, mut bytes) = (std::ptr::null::<u8>(), 0usize);
    let mut entry = extra;
    // SAFETY: NVIDIA's contract: pairs up to CU_LAUNCH_PARAM_END.
    unsafe {
        while !entry.is_null() && !(*entry).is_null() {
            match *entry as usize {
                1 => at = (*entry.add(1)).cast::<u8>().cast_const(),
                2 => bytes = *(*entry.add(1)).cast::<usize>(),
                other => die(&format!("{other} in a launch's extra list")),
            }
            entry = entry.add(2);
        }
        if bytes == 0 {
            Vec::new()
        } else {
            std::slice::from_raw_parts(at, bytes).to_vec()
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    _shared_bytes: c_uint,
    stream: CUstream,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    call("cuLaunchKernel", |s| {
        if !params.is_null() {
            die("kernelParams and extra together");
        }
        let kernel = function_of(s, function)?;
        let (name, needed) = (
            kernel.name.clone(),
            kernel.params.iter().map(|(o, b)| o + b).max().unwrap_or(0),
        );
        let module_ctx = s.modules.get(&kernel.module).map(|m| m.ctx);
        if module_ctx != Some(s.stream(stream as usize)?.ctx) {
            return Err(INVALID_HANDLE);
        }
        let threads = u64::from(block_x) * u64::from(block_y) * u64::from(block_z);
        if [grid_x, grid_y, grid_z, block_x, block_y, block_z].contains(&0) || threads > 1024 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: NVIDIA's contract.
        let params = unsafe { launch_params(extra) };
        if params.len() != needed {
            die(&format!(
                "a launch of {name} with {} bytes of parameters, it has {needed}",
                params.len()
            ));
        }
        let word = |at: usize| {
            params
                .get(at..at + 4)
                .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        };
        let op = match name.as_str() {
            "busy" => Op::Busy(word(0)),
            "endless" => Op::Endless,
            "illegal" => Op::Illegal,
            "print" => Op::Print,
            "crash" => die("a kernel at which the driver crashes"),
            "fill" => {
                let to = u64::from(word(0)) | u64::from(word(4)) << 32;
                let count = u64::from(word(12));
                match s.find(to, count * 4) {
                    None => Op::Illegal,
                    Some(_) => Op::Set {
                        to,
                        pitch: 0,
                        width: 4,
                        value: word(8),
                        count,
                        rows: 1,
                    },
                }
            }
            _ => Op::Busy(0),
        };
        s.submit(stream as usize, op)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernelEx(
    config: *const CUlaunchConfig,
    function: CUfunction,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> u32 {
    // SAFETY: NVIDIA's contract.
    let config = unsafe { &*config };
    let count = config.numAttrs as usize;
    // SAFETY: NVIDIA's contract: so many attributes.
    let attributes = unsafe { std::slice::from_raw_parts(config.attrs, count) };
    let blocks = config.gridDimX * config.gridDimY * config.gridDimZ;
    let answered = call("cuLaunchKernelEx", |s| {
        function_of(s, function)?;
        for attribute in attributes {
            match attribute.id as u32 {
                // An address, or an event.
                1 | 7 | 12 | 13 => die("an attribute that holds a handle or an address"),
                // SAFETY: the member of this attribute.
                2 if unsafe { attribute.value.cooperative } != 0 && blocks > 132 => {
                    return Err(COOPERATIVE_LAUNCH_TOO_LARGE);
                }
                _ => {}
            }
        }
        Ok(())
    });
    if answered != 0 {
        return answered;
    }
    // SAFETY: NVIDIA's contract, the same for both.
    unsafe {
        cuLaunchKernel(
            function,
            config.gridDimX,
            config.gridDimY,
            config.gridDimZ,
            config.blockDimX,
            config.blockDimY,
            config.blockDimZ,
            config.sharedMemBytes,
            config.hStream,
            params,
            extra,
        )
    }
}
