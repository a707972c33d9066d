//! libcuda.so.1 for the guest
