// The counterparts of kernels.cu for an OpenCL device.

kernel void sgemm_naive(global const float *a, global const float *b, global float *c, int n)
{
    int row = get_global_id(1), column = get_global_id(0);
    if (row < n && column < n) {
        float sum = 0.0f;
        for (int i = 0; i < n; i++) {
            sum = fma(a[row * n + i], b[i * n + column], sum);
        }
        c[row * n + column] = sum;
    }
}

kernel void sgemm_tiled(global const float *a, global const float *b, global float *c, int n)
{
    local float tile_a[16][16];
    local float tile_b[16][16];
    int x = get_local_id(0), y = get_local_id(1);
    int row = get_global_id(1), column = get_global_id(0);
    float sum = 0.0f;
    for (int base = 0; base < n; base += 16) {
        tile_a[y][x] = a[row * n + base + x];
        tile_b[y][x] = b[(base + y) * n + column];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < 16; i++) {
            sum = fma(tile_a[y][i], tile_b[i][x], sum);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    c[row * n + column] = sum;
}

kernel void saxpy(global const float *x, global float *y, float a, int n)
{
    int i = get_global_id(0);
    if (i < n) {
        y[i] = fma(a, x[i], y[i]);
    }
}

kernel void reduce(global const float *in, global float *out, int n)
{
    local float part[256];
    int t = get_local_id(0);
    float sum = 0.0f;
    for (int i = get_global_id(0); i < n; i += get_global_size(0)) {
        sum += in[i];
    }
    part[t] = sum;
    for (int step = 128; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < step) {
            part[t] += part[t + step];
        }
    }
    if (t == 0) {
        out[get_group_id(0)] = part[0];
    }
}

kernel void softmax(global const float *in, global float *out, int n)
{
    local float part[256];
    int t = get_local_id(0);
    size_t row = (size_t)get_group_id(0) * n;
    float most = -INFINITY;
    for (int i = t; i < n; i += 256) {
        most = fmax(most, in[row + i]);
    }
    part[t] = most;
    for (int step = 128; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < step) {
            part[t] = fmax(part[t], part[t + step]);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    most = part[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    float sum = 0.0f;
    for (int i = t; i < n; i += 256) {
        float e = native_exp(in[row + i] - most);
        out[row + i] = e;
        sum += e;
    }
    part[t] = sum;
    for (int step = 128; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (t < step) {
            part[t] += part[t + step];
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    float scale = 1.0f / part[0];
    for (int i = t; i < n; i += 256) {
        out[row + i] *= scale;
    }
}

kernel void dp4a_product(global const char4 *a, global const char4 *b, global int *c, int n)
{
    int row = get_global_id(1), column = get_global_id(0);
    int sum = 0;
    for (int i = 0; i < n / 4; i++) {
        int4 p = convert_int4(a[row * (n / 4) + i]) * convert_int4(b[i * n + column]);
        sum += p.x + p.y + p.z + p.w;
    }
    c[row * n + column] = sum;
}

// There are no matrix instructions: a plain product of f16 values, summed in f32.
kernel void mma_product(global const half *a, global const half *b, global float *c, int n)
{
    int row = get_global_id(1), column = get_global_id(0);
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        sum = fma(vload_half(row * n + i, a), vload_half(column * n + i, b), sum);
    }
    c[row * n + column] = sum;
}

kernel void gemv_f16(global const half *w, global const float *x, global float *y, int n)
{
    local float part[256];
    int row = get_global_id(1), lane = get_local_id(0), t = get_local_id(1) * 32 + lane;
    float sum = 0.0f;
    for (int i = lane; i < n / 2; i += 32) {
        float2 f = vload_half2((size_t)row * (n / 2) + i, w), v = vload2(i, x);
        sum = fma(f.x, v.x, sum);
        sum = fma(f.y, v.y, sum);
    }
    part[t] = sum;
    for (int step = 16; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < step) {
            part[t] += part[t + step];
        }
    }
    if (lane == 0) {
        y[row] = part[t];
    }
}

kernel void gemv_q8(global const uchar *w, global const uchar *x, global float *y, int n)
{
    local float part[256];
    int row = get_global_id(1), lane = get_local_id(0), t = get_local_id(1) * 32 + lane;
    int blocks = n / 32;
    float sum = 0.0f;
    for (int i = lane / 4; i < blocks; i += 8) {
        global const uchar *p = w + ((size_t)row * blocks + i) * 34;
        global const uchar *v = x + (size_t)i * 36;
        int8 q = convert_int8(vload8(lane % 4, (global const char *)(p + 2)));
        int8 u = convert_int8(vload8(lane % 4, (global const char *)(v + 4)));
        int8 m = q * u;
        int dot = m.s0 + m.s1 + m.s2 + m.s3 + m.s4 + m.s5 + m.s6 + m.s7;
        sum += vload_half(0, (global const half *)p) * vload_half(0, (global const half *)v) * dot;
    }
    part[t] = sum;
    for (int step = 16; step > 0; step /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < step) {
            part[t] += part[t + step];
        }
    }
    if (lane == 0) {
        y[row] = part[t];
    }
}
