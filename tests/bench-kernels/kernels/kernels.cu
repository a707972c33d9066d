// The kernels that are measured beside kernels.cl: the same work, in the same blocks.
typedef unsigned short half_bits;

__device__ float from_half(half_bits v)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v));
    return f;
}

#define TILE 16

extern "C" __global__ void sgemm_naive(const float *a, const float *b, float *c, int n)
{
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row < n && column < n) {
        float sum = 0.0f;
        for (int i = 0; i < n; i++) {
            sum = fmaf(a[row * n + i], b[i * n + column], sum);
        }
        c[row * n + column] = sum;
    }
}

extern "C" __global__ void sgemm_tiled(const float *a, const float *b, float *c, int n)
{
    __shared__ float tile_a[TILE][TILE];
    __shared__ float tile_b[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    float sum = 0.0f;
    for (int base = 0; base < n; base += TILE) {
        tile_a[y][x] = a[row * n + base + x];
        tile_b[y][x] = b[(base + y) * n + column];
        __syncthreads();
        for (int i = 0; i < TILE; i++) {
            sum = fmaf(tile_a[y][i], tile_b[i][x], sum);
        }
        __syncthreads();
    }
    c[row * n + column] = sum;
}

extern "C" __global__ void saxpy(const float *x, float *y, float a, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = fmaf(a, x[i], y[i]);
    }
}

__device__ float warp_sum(float v)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        v += __shfl_xor_sync(0xffffffffu, v, offset);
    }
    return v;
}

__device__ float warp_max(float v)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    }
    return v;
}

// One partial sum per block.
extern "C" __global__ void reduce(const float *in, float *out, int n)
{
    __shared__ float warps[32];
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        sum += in[i];
    }
    sum = warp_sum(sum);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        warps[warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
        sum = warp_sum(lane < blockDim.x / 32 ? warps[lane] : 0.0f);
        if (lane == 0) {
            out[blockIdx.x] = sum;
        }
    }
}

// One row per block.
extern "C" __global__ void softmax(const float *in, float *out, int n)
{
    __shared__ float warps[32];
    const float *row = in + (size_t)blockIdx.x * n;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, count = blockDim.x / 32;
    float most = -INFINITY;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        most = fmaxf(most, row[i]);
    }
    most = warp_max(most);
    if (lane == 0) {
        warps[warp] = most;
    }
    __syncthreads();
    most = warp_max(warps[lane % count]);
    __syncthreads();
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        float e = __expf(row[i] - most);
        out[(size_t)blockIdx.x * n + i] = e;
        sum += e;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        warps[warp] = sum;
    }
    __syncthreads();
    float scale = 1.0f / warp_sum(lane < count ? warps[lane] : 0.0f);
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        out[(size_t)blockIdx.x * n + i] *= scale;
    }
}

// Bytes by four in a word, along k: a is n rows of n / 4 words, b n / 4 rows of n words.
extern "C" __global__ void dp4a_product(const int *a, const int *b, int *c, int n)
{
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    int sum = 0;
    for (int i = 0; i < n / 4; i++) {
        sum = __dp4a(a[row * (n / 4) + i], b[i * n + column], sum);
    }
    c[row * n + column] = sum;
}

// f16 by f16 to f32 with mma.sync: a warp computes 16 x 32; b is column-major.
extern "C" __global__ void mma_product(const half_bits *a, const half_bits *b, float *c, int n)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = (blockIdx.y * (blockDim.x / 32) + warp) * 16, column = blockIdx.x * 32;
    int group = lane / 4, pair = lane % 4 * 2;
    float d[4][4] = {};
    for (int k = 0; k < n; k += 16) {
        const half_bits *pa = a + (row + group) * n + k + pair;
        unsigned a0 = *(const unsigned *)pa, a1 = *(const unsigned *)(pa + 8 * n);
        unsigned a2 = *(const unsigned *)(pa + 8), a3 = *(const unsigned *)(pa + 8 * n + 8);
        for (int t = 0; t < 4; t++) {
            const half_bits *pb = b + (column + t * 8 + group) * n + k + pair;
            unsigned b0 = *(const unsigned *)pb, b1 = *(const unsigned *)(pb + 8);
            asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                : "+f"(d[t][0]), "+f"(d[t][1]), "+f"(d[t][2]), "+f"(d[t][3])
                : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
        }
    }
    for (int t = 0; t < 4; t++) {
        float *pc = c + (row + group) * n + column + t * 8 + pair;
        pc[0] = d[t][0];
        pc[1] = d[t][1];
        pc[8 * n] = d[t][2];
        pc[8 * n + 1] = d[t][3];
    }
}

// Matrix by vector, f16 weights: a warp for each row, as the decoding step of a language model.
extern "C" __global__ void gemv_f16(const unsigned *w, const float2 *x, float *y, int n)
{
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    const unsigned *p = w + (size_t)row * (n / 2);
    float sum = 0.0f;
    for (int i = threadIdx.x; i < n / 2; i += 32) {
        unsigned h = p[i];
        float2 v = x[i];
        sum = fmaf(from_half(h), v.x, sum);
        sum = fmaf(from_half(h >> 16), v.y, sum);
    }
    sum = warp_sum(sum);
    if (threadIdx.x == 0) {
        y[row] = sum;
    }
}

// Blocks of 32 bytes with one scale, 34 bytes apart: loads of 16 bits, four lanes to a word pair.
struct block_q8 {
    half_bits d;
    signed char q[32];
};
struct __align__(4) block_x {
    half_bits d, s;
    signed char q[32];
};

extern "C" __global__ void gemv_q8(const block_q8 *w, const block_x *x, float *y, int n)
{
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int blocks = n / 32;
    int lane = threadIdx.x;
    float sum = 0.0f;
    for (int i = lane / 4; i < blocks; i += 8) {
        const block_q8 *p = w + (size_t)row * blocks + i;
        const unsigned short *q = (const unsigned short *)p->q + lane % 4 * 4;
        const int *v = (const int *)x[i].q + lane % 4 * 2;
        int q0 = q[0] | q[1] << 16, q1 = q[2] | q[3] << 16;
        int dot = __dp4a(q0, v[0], __dp4a(q1, v[1], 0));
        sum += from_half(p->d) * from_half(x[i].d) * dot;
    }
    sum = warp_sum(sum);
    if (lane == 0) {
        y[row] = sum;
    }
}
