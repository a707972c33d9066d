// Each block adds up its 2 * blockDim.x elements in shared memory, halving the active threads.
extern "C" __global__ void reduce_block(const int *in, long long *out, int n)
{
    __shared__ long long partial[256];
    int t = threadIdx.x;
    int i = blockIdx.x * blockDim.x * 2 + t;
    long long sum = 0;
    if (i < n) {
        sum = in[i];
    }
    if (i + (int)blockDim.x < n) {
        sum += in[i + blockDim.x];
    }
    partial[t] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) {
            partial[t] += partial[t + half];
        }
        __syncthreads();
    }
    if (t == 0) {
        out[blockIdx.x] = partial[0];
    }
}
