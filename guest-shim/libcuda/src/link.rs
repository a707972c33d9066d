//! The linker: `cuLink*`.

use std::ffi::{OsStr, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cudarc::driver::sys::{CUjitInputType_enum as Input, CUlinkState};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{JitReport, LinkId, stubs};
use vgpu_protocol::limits::MAX_LINK_INPUT_BYTES;

use crate::abi::{Done, Host, INVALID, Out, Text, exports};
use crate::ctx::{Ctx, enter};
use crate::init::{Driver, driver};
use crate::module::{FILE_NOT_FOUND, Options};

/// Longest name of an input that is sent, in bytes: it only appears in messages.
const MAX_INPUT_NAME_BYTES: usize = 4096;

/// A linker.
#[derive(Debug)]
pub struct Link {
    /// Its context.
    pub ctx: Arc<Ctx>,
    id: LinkId,
    /// Where its logs go, which "must remain valid for the life of the CUlinkState".
    options: Mutex<Options>,
    /// The linked image, which is the program's to read until the linker is destroyed.
    image: Mutex<Option<Box<[u8]>>>,
}

impl Driver {
    fn link(&self, link: CUlinkState) -> Done<Arc<Link>> {
        self.links
            .get(link as u64)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }
}

fn finish(link: &Link, report: &JitReport, start: Instant) -> Done {
    let options = link.options.lock().unwrap_or_else(|e| e.into_inner());
    options.report(&report.info_log, &report.error_log, start)?;
    Status(report.status).ok()
}

fn create(count: u32, names: Out<i32>, values: Out<*mut c_void>, out: Out<CUlinkState>) -> Done {
    let (driver, ctx, id) = enter()?;
    out.check()?;
    let options = Options::read(count, names, values)?;
    let link = stubs::link_create(driver.channel, id, options.numbers.clone())?;
    let made = driver.links.insert(|_| Link {
        ctx,
        id: link,
        options: Mutex::new(options),
        image: Mutex::new(None),
    });
    match made {
        Some((handle, _)) => out.set(handle as CUlinkState),
        None => Err(Status::ERROR_OUT_OF_MEMORY),
    }
}

fn add(link: CUlinkState, kind: i32, data: &[u8], name: &str, options: &Options) -> Done {
    let driver = driver()?;
    let link = driver.link(link)?;
    if data.len() as u64 > MAX_LINK_INPUT_BYTES {
        return Err(Status::ERROR_OUT_OF_MEMORY);
    }
    let kind = u32::try_from(kind).map_err(|_| INVALID)?;
    let start = Instant::now();
    let ctx = link.ctx.id()?;
    let numbers = options.numbers.clone();
    let report = stubs::link_add(driver.channel, ctx, link.id, kind, name, numbers, data)?;
    finish(&link, &report, start)
}

fn add_data(
    link: CUlinkState,
    kind: i32,
    data: Host,
    bytes: usize,
    name: Text,
    options: &Options,
) -> Done {
    if data.is_null() || bytes == 0 {
        return Err(INVALID);
    }
    // It only appears in messages, and may be null.
    let name = name.str().unwrap_or("");
    add(link, kind, data.slice(bytes)?, cut(name), options)
}

fn add_file(link: CUlinkState, kind: i32, path: Text, options: &Options) -> Done {
    let path = path.bytes()?;
    let mut bytes = fs::read(OsStr::from_bytes(path)).map_err(|_| FILE_NOT_FOUND)?;
    if kind == Input::CU_JIT_INPUT_PTX as i32 {
        // PTX in a file has no NUL.
        bytes.push(0);
    }
    let name = String::from_utf8_lossy(path);
    add(link, kind, &bytes, cut(&name), options)
}

fn cut(name: &str) -> &str {
    let mut end = name.len().min(MAX_INPUT_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

fn complete(link: CUlinkState, image: Out<*mut c_void>, bytes: Out<usize>) -> Done {
    let driver = driver()?;
    let link = driver.link(link)?;
    image.check()?;
    let start = Instant::now();
    let (report, linked) = stubs::link_complete(driver.channel, link.ctx.id()?, link.id)?;
    finish(&link, &report, start)?;
    let mut kept = link.image.lock().unwrap_or_else(|e| e.into_inner());
    let linked = kept.insert(linked.0.into_boxed_slice());
    image.set(linked.as_mut_ptr().cast())?;
    bytes.set_if_given(linked.len());
    Ok(())
}

exports! {
    /// Begins to link. The options' buffers are used until the linker is destroyed.
    fn cuLinkCreate_v2 | cuLinkCreate [_same] (count: u32, names: Out<i32>, values: Out<*mut c_void>, out: Out<CUlinkState>) {
        create(count, names, values, out)
    }

    /// Adds an input from memory.
    fn cuLinkAddData_v2 | cuLinkAddData [_same] (
        link: CUlinkState,
        kind: i32,
        data: Host,
        bytes: usize,
        name: Text,
        count: u32,
        names: Out<i32>,
        values: Out<*mut c_void>,
    ) {
        add_data(link, kind, data, bytes, name, &Options::read(count, names, values)?)
    }

    /// Adds an input from a file.
    fn cuLinkAddFile_v2 | cuLinkAddFile [_same] (
        link: CUlinkState,
        kind: i32,
        path: Text,
        count: u32,
        names: Out<i32>,
        values: Out<*mut c_void>,
    ) {
        add_file(link, kind, path, &Options::read(count, names, values)?)
    }

    /// Links; the image is the linker's until it is destroyed.
    fn cuLinkComplete(link: CUlinkState, image: Out<*mut c_void>, bytes: Out<usize>) {
        complete(link, image, bytes)
    }

    /// Lets go of a linker.
    fn cuLinkDestroy(link: CUlinkState) {
        let driver = driver()?;
        let link = driver.links.remove(link as u64).ok_or(Status::ERROR_INVALID_HANDLE)?;
        stubs::link_destroy(driver.channel, link.ctx.id()?, link.id)
    }
}
