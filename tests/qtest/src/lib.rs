//! qtest tests of the device in the real QEMU
