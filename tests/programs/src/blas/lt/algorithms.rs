//! Descriptors, algorithms and the library itself.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};

use super::products::Case;
use super::{Found, INVALID_VALUE, Lt, Object, Random, Test, Type, call, null, ok};

pub const TESTS: &[Test] = &[
    ("lt_queries", queries),
    ("lt_attributes", attributes),
    ("lt_descriptors_in_own_memory", own_memory),
    ("lt_algorithms", algorithms),
    ("lt_logger", logger),
    ("lt_logger_files", logger_files),
];

/// Switches the library's log off for good: after all others.
pub const LAST: &[Test] = &[("lt_logger_disabled", logger_disabled)];

fn queries(lt: &Lt) -> Result<()> {
    let plain = |name: &str| -> Result<usize> {
        let at = lt.symbol(name)?;
        // SAFETY: no parameters; gives a number.
        let function: extern "C" fn() -> usize = unsafe { std::mem::transmute(at) };
        Ok(function())
    };
    let version = plain("cublasLtGetVersion")?;
    ensure!(
        version / 10_000 == lt.major() as usize,
        "version {version} of {}",
        lt.name
    );
    ensure!(plain("cublasLtGetCudartVersion")? / 1000 == lt.major() as usize);
    let mut parts = [0i32; 3];
    for (which, part) in parts.iter_mut().enumerate() {
        let status =
            call!(lt, "cublasLtGetProperty", which as u32 => u32, &raw mut *part => *mut i32);
        ok("cublasLtGetProperty", status)?;
    }
    ensure!((parts[0] * 10_000 + parts[1] * 100 + parts[2]) as usize == version);
    ensure!(
        call!(lt, "cublasLtGetProperty", 3 => u32, parts.as_mut_ptr() => *mut i32) == INVALID_VALUE
    );
    for (function, status, text) in [
        ("cublasLtGetStatusName", 15, "CUBLAS_STATUS_NOT_SUPPORTED"),
        (
            "cublasLtGetStatusString",
            0,
            "the operation completed successfully",
        ),
    ] {
        let at = lt.symbol(function)?;
        // SAFETY: takes a number, gives a NUL-terminated string that lives as long as the library.
        let got = unsafe {
            let function: extern "C" fn(u32) -> *const c_char = std::mem::transmute(at);
            CStr::from_ptr(function(status))
        };
        ensure!(
            got.to_bytes() == text.as_bytes(),
            "{function}({status}) is {got:?}"
        );
    }
    let mut capacity = 0usize;
    ok(
        "set",
        call!(lt, "cublasLtHeuristicsCacheSetCapacity", 77 => usize),
    )?;
    let status = call!(lt, "cublasLtHeuristicsCacheGetCapacity", &raw mut capacity => *mut usize);
    ensure!(status == 0 && capacity == 77, "a capacity of {capacity}");
    Ok(())
}

fn attributes(lt: &Lt) -> Result<()> {
    let operation = lt.operation(68, Type::F16)?;
    ensure!(operation.get::<i32>(0)? == 68 && operation.get::<i32>(1)? == 2);
    ensure!(
        operation.get::<u32>(7)? == 1,
        "the epilogue of a new descriptor"
    );
    ensure!(
        operation.get::<i32>(6)? == 2,
        "the fill mode of a new descriptor"
    );
    ensure!(
        operation.get::<i32>(26)? == -1,
        "the bias's type of a new descriptor"
    );
    for which in [8u32, 11, 17, 18, 19, 20] {
        ensure!(operation.get::<u64>(which)? == 0, "pointer {which}");
        operation.set(which, 0x1000u64)?;
        ensure!(operation.get::<u64>(which)? == 0x1000, "pointer {which}");
    }
    let layout = lt.layout(Type::F32, 12, 34, 56)?;
    ensure!(
        layout.get::<u64>(2)? == 12 && layout.get::<u64>(3)? == 34 && layout.get::<i64>(4)? == 56
    );
    ensure!(layout.get::<i32>(5)? == 1 && layout.get::<i64>(6)? == 0);
    layout.set(2, 13u64)?;
    ensure!(layout.get::<u64>(2)? == 13);
    let preference = lt.preference()?;
    ensure!(preference.get::<u64>(1)? == 0 && preference.get::<u32>(3)? == 7);
    ensure!((5..9).all(|which| preference.get::<u32>(which).ok() == Some(256)));
    ensure!(preference.get::<u64>(12)? == u64::MAX);
    // Wrong sizes, attributes that are none, null pointers.
    for object in [&operation, &layout, &preference] {
        ensure!(
            object.try_set(1, 1u8)? == INVALID_VALUE,
            "a short value of {}",
            object.kind
        );
        ensure!(
            object.try_set(1000, 1u32)? == INVALID_VALUE,
            "attribute 1000 of {}",
            object.kind
        );
        let name = format!("cublasLt{}GetAttribute", object.kind);
        let get = |to: *mut c_void, bytes: usize, written: *mut usize| -> Result<u32> {
            Ok(
                call!(lt, &name, object.at => u64, 1 => u32, to => *mut c_void, bytes => usize, written => *mut usize),
            )
        };
        let (mut needed, nothing) = (0usize, std::ptr::null_mut());
        ok(
            "the size of an attribute",
            get(nothing, 0, &raw mut needed)?,
        )?;
        ensure!(needed == 4 || needed == 8, "a size of {needed}");
        ensure!(get(nothing, 0, std::ptr::null_mut())? == INVALID_VALUE);
        ensure!(get(nothing, needed, &raw mut needed)? == INVALID_VALUE);
        let set = format!("cublasLt{}SetAttribute", object.kind);
        let status =
            call!(lt, &set, object.at => u64, 1 => u32, null() => *const c_void, needed => usize);
        ensure!(status == INVALID_VALUE, "a null value of {}", object.kind);
    }
    // Destroyed, of another kind, null.
    let mut dead = 0u64;
    ok(
        "create",
        call!(lt, "cublasLtMatmulPreferenceCreate", &raw mut dead => *mut u64),
    )?;
    ok(
        "destroy",
        call!(lt, "cublasLtMatmulPreferenceDestroy", dead => u64),
    )?;
    for at in [dead, layout.at, 0] {
        let status = call!(lt, "cublasLtMatmulPreferenceDestroy", at => u64);
        ensure!(status == INVALID_VALUE, "destroying {at:#x}: {status}");
    }
    let create = call!(lt, "cublasLtMatmulDescCreate", std::ptr::null_mut() => *mut u64, 68 => u32, 0 => u32);
    ensure!(create == INVALID_VALUE, "no place for a descriptor");
    Ok(())
}

/// Sizes of the opaque structs in the header of this major version, in bytes: product, layout, preference.
fn sizes(lt: &Lt) -> [usize; 3] {
    match lt.major() {
        11 => [184, 64, 80],
        12 => [256, 64, 64],
        // As of 13.1.
        _ => [256, 112, 96],
    }
}

fn own_memory(lt: &Lt) -> Result<()> {
    let [operation, layout, preference] = sizes(lt);
    // A guard behind each struct.
    let room = |bytes: usize| vec![0x5a5a_5a5a_5a5a_5a5au64; bytes / 8 + 1];
    let mut memory = [room(operation), room(layout), room(preference)];
    let at = |i: usize, memory: &mut [Vec<u64>; 3]| memory[i].as_mut_ptr() as u64;
    let status = call!(lt, "cublasLtMatmulDescInit_internal",
        at(0, &mut memory) => u64, operation => usize, 68 => u32, 0 => u32);
    ok("cublasLtMatmulDescInit_internal", status)?;
    let status = call!(lt, "cublasLtMatrixLayoutInit_internal",
        at(1, &mut memory) => u64, layout => usize, 0 => u32, 5 => u64, 5 => u64, 5 => i64);
    ok("cublasLtMatrixLayoutInit_internal", status)?;
    let status = call!(lt, "cublasLtMatmulPreferenceInit_internal", at(2, &mut memory) => u64, preference => usize);
    ok("cublasLtMatmulPreferenceInit_internal", status)?;
    for part in &memory {
        ensure!(
            part.last() == Some(&0x5a5a_5a5a_5a5a_5a5a),
            "written behind a struct"
        );
    }
    let status = call!(lt, "cublasLtMatmulDescInit_internal", at(0, &mut memory) => u64, 16 => usize, 68 => u32, 0 => u32);
    ensure!(status == INVALID_VALUE, "a struct of 16 bytes: {status}");
    transform_in_own_memory(lt)?;
    // They are copied as any struct.
    let copy = memory.clone();
    let places: Vec<u64> = copy.iter().map(|part| part.as_ptr() as u64).collect();
    let (mut found, mut count) = (Found::default(), 0i32);
    let status = call!(lt, "cublasLtMatmulAlgoGetHeuristic", lt.handle => u64, places[0] => u64, places[1] => u64,
        places[1] => u64, places[1] => u64, places[1] => u64, places[2] => u64, 1 => i32,
        &raw mut found => *mut Found, &raw mut count => *mut i32);
    ok("cublasLtMatmulAlgoGetHeuristic", status)?;
    ensure!(count == 1);
    // One that lies in the program's memory is not the library's to destroy.
    ensure!(call!(lt, "cublasLtMatmulDescDestroy", places[0] => u64) == INVALID_VALUE);
    Ok(())
}

/// The same for a transformation, which is of 64 bytes in every version.
fn transform_in_own_memory(lt: &Lt) -> Result<()> {
    let mut memory = [0x5a5a_5a5a_5a5a_5a5au64; 9];
    let at = memory.as_mut_ptr() as u64;
    let init = |bytes: usize| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatrixTransformDescInit_internal", at => u64, bytes => usize, 0 => u32),
        )
    };
    ensure!(init(16)? == INVALID_VALUE, "a struct of 16 bytes");
    ok("cublasLtMatrixTransformDescInit_internal", init(64)?)?;
    let desc = std::mem::ManuallyDrop::new(Object {
        lt,
        kind: "MatrixTransformDesc",
        at,
    });
    // The scale's type, the pointers' mode, and the operations on A and B.
    ensure!((0..4).all(|which| desc.get::<i32>(which).ok() == Some(0)));
    desc.set(2, 1i32)?;
    ensure!(desc.get::<i32>(2)? == 1 && desc.get::<i32>(3)? == 0);
    ensure!(
        memory.last() == Some(&0x5a5a_5a5a_5a5a_5a5a),
        "written behind the struct"
    );
    Ok(())
}

fn algorithms(lt: &Lt) -> Result<()> {
    let mut ids = [7u32; 4];
    let mut count = 0i32;
    let mut get = |compute: u32, types: [u32; 4], most: i32| -> Result<u32> {
        let [a, b, c, d] = types;
        Ok(
            call!(lt, "cublasLtMatmulAlgoGetIds", lt.handle => u64, compute => u32, 0 => u32, a => u32, b => u32,
            c => u32, d => u32, most => i32, ids.as_mut_ptr() => *mut u32, &raw mut count => *mut i32),
        )
    };
    ok("cublasLtMatmulAlgoGetIds", get(68, [0; 4], 4)?)?;
    ensure!(get(68, [0; 4], 0)? == INVALID_VALUE, "none wanted");
    ensure!(
        get(68, [0, 0, 0, 1], 4)? == super::NOT_SUPPORTED,
        "types that do not go together"
    );
    ensure!(
        get(66, [0; 4], 4)? == INVALID_VALUE,
        "an invented compute type"
    );
    ensure!(count == 1 && ids[1] == 7, "{count} algorithms, {ids:?}");
    let mut algorithm = [0u64; 8];
    let mut init = |id: u32| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatmulAlgoInit", lt.handle => u64, 68 => u32, 0 => u32, 0 => u32, 0 => u32,
            0 => u32, 0 => u32, id => u32, algorithm.as_mut_ptr() => *mut u64),
        )
    };
    ok("cublasLtMatmulAlgoInit", init(ids[0])?)?;
    ensure!(init(99_999)? == INVALID_VALUE, "an invented algorithm");
    let config = std::mem::ManuallyDrop::new(Object {
        lt,
        kind: "MatmulAlgoConfig",
        at: algorithm.as_mut_ptr() as u64,
    });
    ensure!(config.get::<u32>(0)? == ids[0] && config.get::<i32>(2)? == 1);
    config.set(1, 15u32)?;
    config.set(8, 3u16)?;
    ensure!(config.get::<u32>(1)? == 15 && config.get::<u16>(8)? == 3);
    // Capabilities.
    let capability = |which: u32, to: &mut [u32], written: &mut usize| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatmulAlgoCapGetAttribute", algorithm.as_ptr() => *const u64, which => u32,
            to.as_mut_ptr() => *mut u32, size_of_val(to) => usize, written => *mut usize),
        )
    };
    let (mut word, mut written) = ([0u32; 1], 0);
    for (which, want) in [(0, 0), (3, 1), (4, 1), (11, 3), (16, 4)] {
        ok("a capability", capability(which, &mut word, &mut written)?)?;
        ensure!(
            word[0] == want && written == 4,
            "capability {which} is {}",
            word[0]
        );
    }
    ok("tiles", capability(6, &mut [], &mut written)?)?;
    ensure!(written == 4, "the tiles take {written} bytes");
    ok("tiles", capability(6, &mut [9; 3], &mut written)?)?;
    ensure!(
        capability(3, &mut [0; 3], &mut written)? == INVALID_VALUE,
        "a size that is too large"
    );
    ensure!(
        capability(999, &mut word, &mut written)? == INVALID_VALUE,
        "an invented capability"
    );
    // What is checked is what can be computed.
    let operation = lt.operation(68, Type::F32)?;
    let layout = lt.layout(Type::F32, 9, 9, 9)?;
    let mut found = Found::default();
    let mut check = |algorithm: *const u64| -> Result<u32> {
        Ok(
            call!(lt, "cublasLtMatmulAlgoCheck", lt.handle => u64, operation.at => u64, layout.at => u64,
            layout.at => u64, layout.at => u64, layout.at => u64, algorithm => *const u64, &raw mut found => *mut Found),
        )
    };
    ok("cublasLtMatmulAlgoCheck", check(algorithm.as_ptr())?)?;
    ensure!(
        check([0u64; 8].as_ptr())? == INVALID_VALUE,
        "an algorithm of zeros"
    );
    ensure!(found.state == 0 && found.algorithm[0] != 0);
    let half = lt.operation(68, Type::F32)?;
    let halves = lt.layout(Type::F16, 9, 9, 9)?;
    let status = call!(lt, "cublasLtMatmulAlgoCheck", lt.handle => u64, half.at => u64, halves.at => u64,
        halves.at => u64, halves.at => u64, halves.at => u64, algorithm.as_ptr() => *const u64, &raw mut found => *mut Found);
    ensure!(
        status == INVALID_VALUE,
        "an algorithm for other types: {status}"
    );
    if lt.symbol("cublasLtMatmulAlgoCheckForStream").is_ok() {
        let preference = lt.preference()?;
        let (mut one, mut checked, mut count) = (Found::default(), Found::default(), 0i32);
        let status = call!(lt, "cublasLtMatmulAlgoGetHeuristicForStream", lt.handle => u64, operation.at => u64,
            layout.at => u64, layout.at => u64, layout.at => u64, layout.at => u64, preference.at => u64, 1 => i32,
            &raw mut one => *mut Found, &raw mut count => *mut i32, 0 => u64);
        ok("cublasLtMatmulAlgoGetHeuristicForStream", status)?;
        ensure!(count == 1 && one.state == 0, "{count} algorithms, {one:?}");
        let status = call!(lt, "cublasLtMatmulAlgoCheckForStream", lt.handle => u64, operation.at => u64,
            layout.at => u64, layout.at => u64, layout.at => u64, layout.at => u64,
            one.algorithm.as_ptr() => *const u64, &raw mut checked => *mut Found, 0 => u64);
        ok("cublasLtMatmulAlgoCheckForStream", status)?;
        ensure!(
            checked.algorithm == one.algorithm,
            "{checked:?} instead of {one:?}"
        );
    }
    Ok(())
}

static LOGGED: AtomicU32 = AtomicU32::new(0);

/// Counts calls that are traced, and errors by the thousand.
extern "C" fn count(level: c_int, name: *const c_char, _message: *const c_char) {
    // SAFETY: the library gives a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) };
    if name.to_bytes() == b"cublasLtMatmul" {
        LOGGED.fetch_add(if level == 1 { 1000 } else { 1 }, Ordering::Relaxed);
    }
}

fn logger(lt: &Lt) -> Result<()> {
    LOGGED.store(0, Ordering::Relaxed);
    ensure!(call!(lt, "cublasLtLoggerSetLevel", 6 => u32) == INVALID_VALUE);
    ensure!(call!(lt, "cublasLtLoggerSetMask", 64 => u32) == INVALID_VALUE);
    let callback = count as extern "C" fn(c_int, *const c_char, *const c_char) as usize;
    ok(
        "callback",
        call!(lt, "cublasLtLoggerSetCallback", callback => usize),
    )?;
    ok("level", call!(lt, "cublasLtLoggerSetLevel", 5 => u32))?;
    let case = Case::new(68, Type::F32, Type::F32, [4, 4, 4]);
    let m = case.matrices(&mut Random(51))?;
    ok("cublasLtMatmul", case.call(lt, &m, |_| Ok(()))?)?;
    ensure!(case.call(lt, &m, |operation| operation.set(7, 3u32))? == INVALID_VALUE);
    // Errors alone.
    ok("mask", call!(lt, "cublasLtLoggerSetMask", 1 => u32))?;
    ensure!(case.call(lt, &m, |operation| operation.set(7, 3u32))? == INVALID_VALUE);
    ok("level", call!(lt, "cublasLtLoggerSetLevel", 0 => u32))?;
    ok("cublasLtMatmul", case.call(lt, &m, |_| Ok(()))?)?;
    ok(
        "callback",
        call!(lt, "cublasLtLoggerSetCallback", null() => *const c_void),
    )?;
    let logged = LOGGED.load(Ordering::Relaxed);
    ensure!(
        logged == 2002,
        "{} calls and {} errors were logged",
        logged % 1000,
        logged / 1000
    );
    Ok(())
}

/// A product that succeeds, traced.
fn traced(lt: &Lt) -> Result<()> {
    ok("level", call!(lt, "cublasLtLoggerSetLevel", 5 => u32))?;
    let case = Case::new(68, Type::F32, Type::F32, [4, 4, 4]);
    let m = case.matrices(&mut Random(52))?;
    let result = case.call(lt, &m, |_| Ok(()));
    ok("level", call!(lt, "cublasLtLoggerSetLevel", 0 => u32))?;
    ok("cublasLtMatmul", result?)
}

/// Lines of a log about a product that succeeded.
fn products(log: &str) -> usize {
    log.lines()
        .filter(|line| line.contains("[cublasLtMatmul]") && line.contains("CUBLAS_STATUS_SUCCESS"))
        .count()
}

fn logger_files(lt: &Lt) -> Result<()> {
    let base = std::env::temp_dir().join(format!("vgpu-lt-log-{}", std::process::id()));
    let (opened, set) = (base.with_extension("opened"), base.with_extension("set"));
    let text = |path: &std::path::Path| CString::new(path.as_os_str().as_encoded_bytes());
    let (opened_name, set_name) = (text(&opened)?, text(&set)?);
    let open = |path: *const c_char| -> Result<u32> {
        Ok(call!(lt, "cublasLtLoggerOpenFile", path => *const c_char))
    };
    ensure!(open(std::ptr::null())? == INVALID_VALUE, "no path");
    ensure!(
        open(c"/no/such/folder/log".as_ptr())? == INVALID_VALUE,
        "a folder that is not there"
    );
    ok("cublasLtLoggerOpenFile", open(opened_name.as_ptr())?)?;
    traced(lt)?;
    // SAFETY: two NUL-terminated strings.
    let stream = unsafe { libc::fopen(set_name.as_ptr(), c"w".as_ptr()) };
    ensure!(!stream.is_null(), "{} cannot be made", set.display());
    let to_stream = |stream: *mut libc::FILE| -> Result<()> {
        let status = call!(lt, "cublasLtLoggerSetFile", stream => *mut libc::FILE);
        ok("cublasLtLoggerSetFile", status)
    };
    to_stream(stream)?;
    traced(lt)?;
    traced(lt)?;
    to_stream(std::ptr::null_mut())?;
    // SAFETY: opened above, and the library has it no more.
    unsafe { libc::fclose(stream) };
    let logs = [&opened, &set].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    for path in [opened, set] {
        std::fs::remove_file(path)?;
    }
    let counts = logs.each_ref().map(|log| products(log));
    ensure!(counts == [1, 2], "{counts:?} products in {logs:?}");
    Ok(())
}

fn logger_disabled(lt: &Lt) -> Result<()> {
    ok("disable", call!(lt, "cublasLtLoggerForceDisable",))?;
    LOGGED.store(0, Ordering::Relaxed);
    let callback = count as extern "C" fn(c_int, *const c_char, *const c_char) as usize;
    ok(
        "callback",
        call!(lt, "cublasLtLoggerSetCallback", callback => usize),
    )?;
    traced(lt)?;
    let logged = LOGGED.load(Ordering::Relaxed);
    ensure!(logged == 0, "{logged} calls were logged");
    Ok(())
}
