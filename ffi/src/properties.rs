//! Properties of `-device`, declared as a table.
#![allow(unsafe_code)] // storage that QEMU's property setters write

use std::ffi::{CStr, c_char};
use std::ops::Range;

use crate::bindings::{self, ObjectClass, Property};

/// Type and default of a property.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// An unsigned number of 32 bits.
    U32(u32),
    /// A number of bytes; takes the suffixes K, M, G, T.
    Size(u64),
    /// A text.
    Str(&'static CStr),
}

/// One row of a device's property table.
#[derive(Clone, Copy, Debug)]
pub struct PropertySpec {
    /// As written on the command line.
    pub name: &'static CStr,
    /// Type and default.
    pub kind: Kind,
    /// One line for `-device vgpu-stub,help`.
    pub help: &'static CStr,
}

/// The most properties that a device can declare: each instance has that many values.
pub const MAX_PROPERTIES: usize = 16;

/// Where QEMU's setters put one value. Which field is live follows from the table.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) union Value {
    pub(crate) number32: u32,
    pub(crate) number64: u64,
    pub(crate) text: *mut c_char,
}

/// Adds the table to a class. `span` is where an instance has its array of values.
///
/// # Safety
/// `class` is the class under initialization, of a `DeviceClass` descendant whose instances
/// hold `[Value; MAX_PROPERTIES]` at `span`; the table has at most that many rows.
pub(crate) unsafe fn declare(
    class: *mut ObjectClass,
    table: &'static [PropertySpec],
    span: Range<usize>,
) {
    let properties: Vec<Property> = table
        .iter()
        .enumerate()
        .map(|(n, spec)| {
            // SAFETY: all fields are pointers, numbers and a bool: zero is valid for each.
            let mut property: Property = unsafe { std::mem::zeroed() };
            property.name = spec.name.as_ptr();
            property.offset = (span.start + n * size_of::<Value>()) as isize;
            property.set_default = true;
            match spec.kind {
                Kind::U32(default) => {
                    property.info = &raw const bindings::qdev_prop_uint32;
                    property.defval.u = default.into();
                }
                Kind::Size(default) => {
                    property.info = &raw const bindings::qdev_prop_size;
                    property.defval.u = default;
                }
                Kind::Str(_) => {
                    // QEMU has no defaults for texts: null stands for it (see `text`).
                    property.info = &raw const bindings::qdev_prop_string;
                    property.set_default = false;
                }
            }
            property
        })
        .collect();
    // QEMU keeps pointers into the array for as long as the class lives, which is for ever.
    let properties = Box::leak(properties.into_boxed_slice());
    // SAFETY: the caller vouches for the class and the offsets; the array is leaked and has
    // the length that is passed.
    unsafe {
        bindings::device_class_set_props_n(class.cast(), properties.as_ptr(), properties.len());
    }
    for spec in table {
        // SAFETY: the class has the property since the call above; both strings are static.
        unsafe {
            bindings::object_class_property_set_description(
                class,
                spec.name.as_ptr(),
                spec.help.as_ptr(),
            );
        }
    }
}

/// The values of one instance, with the table that explains them.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) table: &'static [PropertySpec],
    pub(crate) values: &'a [Value; MAX_PROPERTIES],
}

impl Values<'_> {
    fn find(&self, name: &str) -> Option<(Kind, &Value)> {
        let at = self
            .table
            .iter()
            .position(|spec| spec.name.to_bytes() == name.as_bytes())?;
        Some((self.table.get(at)?.kind, self.values.get(at)?))
    }

    pub(crate) fn u32(&self, name: &str) -> Result<u32, String> {
        match self.find(name) {
            // SAFETY: a `U32` row's value is written by qdev_prop_uint32 alone.
            Some((Kind::U32(_), value)) => Ok(unsafe { value.number32 }),
            _ => Err(undeclared(name, "a number")),
        }
    }

    pub(crate) fn size(&self, name: &str) -> Result<u64, String> {
        match self.find(name) {
            // SAFETY: a `Size` row's value is written by qdev_prop_size alone.
            Some((Kind::Size(_), value)) => Ok(unsafe { value.number64 }),
            _ => Err(undeclared(name, "a size")),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<String, String> {
        match self.find(name) {
            Some((Kind::Str(default), value)) => {
                // SAFETY: a `Str` row's value is written by qdev_prop_string alone: null, or
                // a NUL-terminated string that the instance owns.
                let text = unsafe {
                    if value.text.is_null() {
                        default
                    } else {
                        CStr::from_ptr(value.text)
                    }
                };
                text.to_str()
                    .map(str::to_owned)
                    .map_err(|_| format!("property '{name}': the value is not valid UTF-8"))
            }
            _ => Err(undeclared(name, "a text")),
        }
    }
}

fn undeclared(name: &str, kind: &str) -> String {
    format!("the device declares no property '{name}' that is {kind}")
}
