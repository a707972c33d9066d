//! The linker: it puts texts one after another. `unknown` in one of them is a symbol that is not there.

use std::ffi::{CStr, c_char, c_uint, c_void};

use cudarc::driver::sys::CUlinkState;

use crate::code::write_log;
use crate::state::{INVALID_HANDLE, INVALID_VALUE, Link, call, die};

const INVALID_PTX: u32 = 218;
const UNKNOWN: u32 = 999;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkCreate_v2(
    count: c_uint,
    options: *mut c_uint,
    values: *mut *mut c_void,
    link: *mut CUlinkState,
) -> u32 {
    call("cuLinkCreate_v2", |s| {
        let ctx = s.current()?;
        // SAFETY: NVIDIA's contract: both lists have `count` entries.
        let options: Vec<(u32, usize)> = (0..count as usize)
            .map(|i| unsafe { (*options.add(i), *values.add(i) as usize) })
            .collect();
        if options.iter().any(|(o, _)| matches!(o, 17..=19 | 25..=28)) {
            die("an option whose value is an address of the guest's");
        }
        let handle = s.handle();
        s.links.insert(
            handle,
            Link {
                ctx,
                options,
                text: String::new(),
                image: Vec::new(),
            },
        );
        // SAFETY: NVIDIA's contract.
        unsafe { *link = handle as CUlinkState };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkAddData_v2(
    link: CUlinkState,
    kind: c_uint,
    data: *mut c_void,
    bytes: usize,
    name: *const c_char,
    _count: c_uint,
    _options: *mut c_uint,
    _values: *mut *mut c_void,
) -> u32 {
    call("cuLinkAddData_v2", |s| {
        let link = s.links.get_mut(&(link as usize)).ok_or(INVALID_HANDLE)?;
        if kind > 4 {
            return Err(INVALID_VALUE);
        }
        // SAFETY: NVIDIA's contract: so many bytes, and a name with a NUL.
        let (data, name) = unsafe {
            (
                std::slice::from_raw_parts(data.cast::<u8>(), bytes),
                CStr::from_ptr(name).to_string_lossy(),
            )
        };
        let text = String::from_utf8_lossy(data);
        let text = text.trim_end_matches('\0');
        if text.contains("broken") {
            write_log(&link.options, 5, 6, &format!("ptxas {name}, line 2; fatal"));
            return Err(INVALID_PTX);
        }
        write_log(&link.options, 3, 4, &format!("added {name}"));
        link.text.push_str(text);
        link.text.push('\n');
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLinkComplete(
    link: CUlinkState,
    image: *mut *mut c_void,
    bytes: *mut usize,
) -> u32 {
    call("cuLinkComplete", |s| {
        let link = s.links.get_mut(&(link as usize)).ok_or(INVALID_HANDLE)?;
        if link.text.contains("unknown") {
            write_log(
                &link.options,
                5,
                6,
                "error   : Undefined reference to 'unknown'",
            );
            return Err(UNKNOWN);
        }
        link.image = link.text.clone().into_bytes();
        link.image.push(0);
        // SAFETY: NVIDIA's contract; the image lives as long as the linker.
        unsafe {
            *image = link.image.as_mut_ptr().cast();
            *bytes = link.image.len();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuLinkDestroy(link: CUlinkState) -> u32 {
    call("cuLinkDestroy", |s| {
        s.links
            .remove(&(link as usize))
            .map(|_| ())
            .ok_or(INVALID_HANDLE)
    })
}
