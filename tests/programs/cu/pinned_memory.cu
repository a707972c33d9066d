/* Memory of the program that the device reads and writes itself. */
#include "check.h"

__global__ void twice(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = in[i] * 2;
}

int main()
{
    const int n = 5000;
    int *in, *out, *in_device, *out_device;
    cudaError_t error = cudaHostAlloc(&in, n * sizeof(int), cudaHostAllocMapped);
    if (error == cudaErrorNotSupported)
        return skip(__FILE__, "cudaHostAlloc is not supported");
    NEED(error);
    NEED(cudaMallocHost(&out, n * sizeof(int)));
    for (int i = 0; i < n; i++)
        in[i] = i, out[i] = -1;
    NEED(cudaHostGetDevicePointer(&in_device, in, 0));
    NEED(cudaHostGetDevicePointer(&out_device, out, 0));
    twice<<<(n + 255) / 256, 256>>>(in_device, out_device, n);
    NEED(cudaDeviceSynchronize());
    for (int i = 0; i < n; i++)
        equal("mapped", i, out[i], i * 2);
    Array<int> other(n);
    cudaStream_t stream;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaMemcpyAsync(other.device, out, n * sizeof(int), cudaMemcpyHostToDevice, stream));
    twice<<<(n + 255) / 256, 256, 0, stream>>>(other.device, other.device, n);
    NEED(cudaMemcpyAsync(in, other.device, n * sizeof(int), cudaMemcpyDeviceToHost, stream));
    NEED(cudaStreamSynchronize(stream));
    for (int i = 0; i < n; i++)
        equal("copied", i, in[i], i * 4);
    unsigned flags;
    NEED(cudaHostGetFlags(&flags, in));
    HOLDS(flags & cudaHostAllocMapped);
    cudaPointerAttributes attributes;
    NEED(cudaPointerGetAttributes(&attributes, in + 5));
    HOLDS(attributes.type == cudaMemoryTypeHost && attributes.hostPointer == in + 5);
    NEED(cudaStreamDestroy(stream));
    NEED(cudaFreeHost(in));
    NEED(cudaFreeHost(out));
    return finish(__FILE__);
}
