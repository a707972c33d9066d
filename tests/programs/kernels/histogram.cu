// Counts of byte values with atomics straight into global memory.
extern "C" __global__ void histogram_global(const unsigned char *in, unsigned *bins, int n)
{
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&bins[in[i]], 1u);
    }
}

// The same with a histogram per block in shared memory.
extern "C" __global__ void histogram_shared(const unsigned char *in, unsigned *bins, int n)
{
    __shared__ unsigned local[256];
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        local[b] = 0;
    }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&local[in[i]], 1u);
    }
    __syncthreads();
    for (int b = threadIdx.x; b < 256; b += blockDim.x) {
        if (local[b]) {
            atomicAdd(&bins[b], local[b]);
        }
    }
}

// The other atomics: out[0..8) = max, min, and, or, xor, exchanged-in count, wrapped increment, cas count.
extern "C" __global__ void atomics(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    int v = in[i];
    atomicMax(&out[0], v);
    atomicMin(&out[1], v);
    atomicAnd(&out[2], v | 0x0f);
    atomicOr(&out[3], v & 0xff00);
    atomicXor(&out[4], v);
    if (atomicExch(&out[5], 1) == 0) {
        atomicAdd(&out[6], 1);
    }
    int old = out[7], seen;
    do {
        seen = old;
        old = atomicCAS(&out[7], seen, seen + 3);
    } while (old != seen);
}
