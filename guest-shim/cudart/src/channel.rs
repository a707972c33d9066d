//! What needs no device: formats of channels, and conversions that no device needs any more.

use crate::abi::{In, exports};
use crate::types::ChannelFormatDesc;

exports! {
    /// A format of channels by its numbers.
    fn cudaCreateChannelDesc(x: i32, y: i32, z: i32, w: i32, kind: i32) -> ChannelFormatDesc = ChannelFormatDesc::default(), {
        ChannelFormatDesc { x, y, z, w, kind }
    }

    /// Converts a double for devices that have none. "If the device does natively support doubles,
    /// then this function does nothing."
    fn cudaSetDoubleForDevice(value: In<f64>) {
        value.get().map(drop)
    }

    /// Converts a double of devices that have none back. "If the device does natively support
    /// doubles, then this function does nothing."
    fn cudaSetDoubleForHost(value: In<f64>) {
        value.get().map(drop)
    }
}
