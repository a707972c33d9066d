// Shared memory of a size given at launch: each block turns its elements round.
extern "C" __global__ void reverse_block(const double *in, double *out, int n)
{
    extern __shared__ double buffer[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int first = blockIdx.x * blockDim.x;
    int count = min((int)blockDim.x, n - first);
    if (i < n) {
        buffer[threadIdx.x] = in[i];
    }
    __syncthreads();
    if (i < n) {
        out[i] = buffer[count - 1 - threadIdx.x];
    }
}
