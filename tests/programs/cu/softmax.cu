/* Rows of a network: layer normalisation, softmax and an attention-like product, in float and half. */
#include <cuda_fp16.h>

#include "check.h"

__device__ float warp_sum(float x)
{
    for (int step = 16; step; step /= 2)
        x += __shfl_xor_sync(~0u, x, step);
    return x;
}

__device__ float block_sum(float x)
{
    __shared__ float sums[32];
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0)
        sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = threadIdx.x < blockDim.x / 32 ? sums[threadIdx.x] : 0;
    if (threadIdx.x < 32)
        x = warp_sum(x);
    if (threadIdx.x == 0)
        sums[0] = x;
    __syncthreads();
    x = sums[0];
    __syncthreads();
    return x;
}

__global__ void normalise(const float *in, __half *out, int columns)
{
    const float *row = in + blockIdx.x * columns;
    float sum = 0, squares = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        sum += row[i];
    float mean = block_sum(sum) / columns;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        squares += (row[i] - mean) * (row[i] - mean);
    float scale = rsqrtf(block_sum(squares) / columns + 1e-5f);
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        out[blockIdx.x * columns + i] = __float2half((row[i] - mean) * scale);
}

__global__ void softmax(const __half *in, float *out, int columns)
{
    const __half *row = in + blockIdx.x * columns;
    __shared__ float most;
    if (threadIdx.x < 32) {
        float m = -INFINITY;
        for (int i = threadIdx.x; i < columns; i += 32)
            m = fmaxf(m, __half2float(row[i]));
        for (int step = 16; step; step /= 2)
            m = fmaxf(m, __shfl_xor_sync(~0u, m, step));
        if (threadIdx.x == 0)
            most = m;
    }
    __syncthreads();
    float sum = 0;
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        sum += expf(__half2float(row[i]) - most);
    sum = block_sum(sum);
    for (int i = threadIdx.x; i < columns; i += blockDim.x)
        out[blockIdx.x * columns + i] = __fdividef(expf(__half2float(row[i]) - most), sum);
}

int main()
{
    const int rows = 20, columns = 333;
    Array<float> in(rows * columns), out(rows * columns);
    Array<__half> middle(rows * columns);
    for (int i = 0; i < rows * columns; i++)
        in[i] = random_unit() * 10 - 3;
    in.put();
    normalise<<<rows, 128>>>(in.device, middle.device, columns);
    softmax<<<rows, 128>>>(middle.device, out.device, columns);
    middle.get();
    out.get();
    for (int r = 0; r < rows; r++) {
        double mean = 0, variance = 0, sum = 0;
        for (int i = 0; i < columns; i++)
            mean += in[r * columns + i] / columns;
        for (int i = 0; i < columns; i++)
            variance += pow(in[r * columns + i] - mean, 2) / columns;
        for (int i = 0; i < columns; i++) {
            double want = (in[r * columns + i] - mean) / sqrt(variance + 1e-5);
            near("normalised", r * columns + i, __half2float(middle[r * columns + i]), want, 2e-3);
            sum += exp(__half2float(middle[r * columns + i]));
        }
        for (int i = 0; i < columns; i++)
            near("softmax", r * columns + i, out[r * columns + i], exp(__half2float(middle[r * columns + i])) / sum, 1e-6);
    }
    return finish(__FILE__);
}
