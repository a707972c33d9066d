//! Sessions, dispatch and backends behind the vgpu-stub device
