//! CUDA driver-API programs that know nothing of vgpu-stub

fn main() {}
