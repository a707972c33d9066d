// Variables of the module: constant, global, with and without an initial value.
extern "C" {
__constant__ int table[16] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3};
__constant__ float scale;
__device__ unsigned long long total = 1000;
__device__ int scratch[1024];

__global__ void globals(const int *in, float *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    int value = in[i] + table[i % 16];
    if (i < 1024) {
        scratch[i] = value;
    }
    atomicAdd(&total, (unsigned long long)value);
    out[i] = (float)value * scale;
}
}
