//! Command-line check of the device from inside the guest

fn main() {}
