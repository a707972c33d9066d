/* Streams, events, and copies of all shapes. */
#include <vector>

#include "check.h"

__global__ void add_one(int *values, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] += 1;
}

__global__ void spin(int *out, int rounds)
{
    int x = 1;
    for (int i = 0; i < rounds; i++)
        x = x * 1664525 + 1013904223;
    *out = x;
}

static void order()
{
    const int n = 4096;
    std::vector<int> host(n, 1);
    int *values;
    cudaStream_t a, b;
    cudaEvent_t event;

    NEED(cudaMalloc(&values, n * sizeof(int)));
    NEED(cudaStreamCreate(&a));
    NEED(cudaStreamCreateWithPriority(&b, cudaStreamNonBlocking, -1));
    NEED(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    NEED(cudaMemcpyAsync(values, host.data(), n * sizeof(int), cudaMemcpyHostToDevice, a));
    for (int i = 0; i < 20; i++) {
        add_one<<<n / 256, 256, 0, a>>>(values, n);
        NEED(cudaEventRecord(event, a));
        NEED(cudaStreamWaitEvent(b, event, 0));
        add_one<<<n / 256, 256, 0, b>>>(values, n);
        NEED(cudaEventRecord(event, b));
        NEED(cudaStreamWaitEvent(a, event, 0));
    }
    NEED(cudaMemcpyAsync(host.data(), values, n * sizeof(int), cudaMemcpyDeviceToHost, a));
    NEED(cudaStreamSynchronize(a));
    bool good = true;
    for (int value : host)
        good = good && value == 41;
    report("events order two streams", good, "wrong sums");
    NEED(cudaStreamQuery(a));
    NEED(cudaEventQuery(event));
    unsigned flags;
    int priority, least, greatest;
    NEED(cudaStreamGetFlags(b, &flags));
    HOLDS(flags == cudaStreamNonBlocking);
    NEED(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    NEED(cudaStreamGetPriority(b, &priority));
    HOLDS(priority >= greatest && priority <= least);
    unsigned long long id_a, id_b;
    NEED(cudaStreamGetId(a, &id_a));
    NEED(cudaStreamGetId(b, &id_b));
    HOLDS(id_a != id_b);
    NEED(cudaEventDestroy(event));
    NEED(cudaStreamDestroy(a));
    NEED(cudaStreamDestroy(b));
    NEED(cudaFree(values));
}

static void timing()
{
    cudaEvent_t start, end;
    float milliseconds = -1;
    int *out;

    NEED(cudaMalloc(&out, sizeof(int)));
    NEED(cudaEventCreate(&start));
    NEED(cudaEventCreate(&end));
    NEED(cudaEventRecord(start));
    spin<<<1, 1>>>(out, 10000);
    NEED(cudaEventRecord(end, cudaStreamLegacy));
    NEED(cudaEventSynchronize(end));
    NEED(cudaEventElapsedTime(&milliseconds, start, end));
    HOLDS(milliseconds > 0);
    cudaEvent_t never;
    NEED(cudaEventCreateWithFlags(&never, cudaEventDisableTiming));
    NEED(cudaEventRecord(never));
    GIVES(cudaEventElapsedTime(&milliseconds, start, never), cudaErrorInvalidResourceHandle);
    cudaGetLastError();
    NEED(cudaEventDestroy(never));
    NEED(cudaEventDestroy(start));
    NEED(cudaEventDestroy(end));
    NEED(cudaFree(out));
}

static void rows()
{
    const size_t width = 100, height = 7;
    char *device;
    size_t pitch;
    std::vector<char> in(width * height), out(width * height);
    for (size_t i = 0; i < in.size(); i++)
        in[i] = (char)(i * 7);
    NEED(cudaMallocPitch(&device, &pitch, width, height));
    HOLDS(pitch >= width && pitch % 256 == 0);
    NEED(cudaMemcpy2D(device, pitch, in.data(), width, width, height, cudaMemcpyHostToDevice));
    NEED(cudaMemcpy2DAsync(out.data(), width, device, pitch, width, height,
                           cudaMemcpyDeviceToHost, 0));
    NEED(cudaDeviceSynchronize());
    HOLDS(in == out);
    NEED(cudaMemset2D(device, pitch, 5, 10, height));
    NEED(cudaMemset2DAsync(device + 10, pitch, 6, 10, height, 0));
    NEED(cudaMemcpy2D(out.data(), width, device, pitch, width, height, cudaMemcpyDefault));
    bool good = true;
    for (size_t i = 0; i < out.size(); i++) {
        size_t x = i % width;
        good = good && out[i] == (x < 10 ? 5 : x < 20 ? 6 : in[i]);
    }
    report("cudaMemset2D sets columns", good, "wrong bytes");
    NEED(cudaFree(device));
}

static void boxes()
{
    cudaExtent extent = make_cudaExtent(32, 4, 3);
    cudaPitchedPtr device;
    std::vector<char> in(32 * 4 * 3), out(32 * 4 * 3, 0);
    for (size_t i = 0; i < in.size(); i++)
        in[i] = (char)i;
    NEED(cudaMalloc3D(&device, extent));
    HOLDS(device.xsize == 32 && device.ysize == 4);
    NEED(cudaMemset3D(device, 1, extent));
    cudaMemcpy3DParms parms = {};
    parms.srcPtr = make_cudaPitchedPtr(in.data(), 32, 32, 4);
    parms.dstPtr = device;
    parms.extent = make_cudaExtent(32, 4, 2);
    parms.kind = cudaMemcpyHostToDevice;
    cudaError_t error = cudaMemcpy3D(&parms);
    if (error == cudaErrorNotSupported) {
        /* The driver says so; nothing is copied. */
        report("cudaMemcpy3D is refused", true, "");
        cudaGetLastError();
    } else {
        NEED(error);
        parms = {};
        parms.srcPtr = device;
        parms.dstPtr = make_cudaPitchedPtr(out.data(), 32, 32, 4);
        parms.extent = extent;
        parms.kind = cudaMemcpyDeviceToHost;
        NEED(cudaMemcpy3DAsync(&parms, 0));
        NEED(cudaDeviceSynchronize());
        HOLDS(out[0] == 0 && out[255] == in[255] && out[256] == 1 && out[383] == 1);
        parms.kind = (cudaMemcpyKind)7;
        GIVES(cudaMemcpy3D(&parms), cudaErrorInvalidMemcpyDirection);
        cudaGetLastError();
    }
    NEED(cudaFree(device.ptr));
}

/* The default stream of a thread of its own, and the one that orders with all others. */
static void defaults()
{
    int *value, host = -1;
    NEED(cudaMalloc(&value, sizeof(int)));
    NEED(cudaMemsetAsync(value, 0, sizeof(int), cudaStreamPerThread));
    add_one<<<1, 1, 0, cudaStreamPerThread>>>(value, 1);
    add_one<<<1, 1, 0, cudaStreamLegacy>>>(value, 1);
    add_one<<<1, 1>>>(value, 1);
    NEED(cudaMemcpy(&host, value, sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(host == 3);
    NEED(cudaMemcpyPeer(value, 0, value, 0, sizeof(int)) == cudaErrorNotSupported
             ? cudaSuccess
             : cudaPeekAtLastError());
    cudaGetLastError();
    GIVES(cudaMemcpyPeerAsync(value, 3, value, 0, 4, 0), cudaErrorInvalidDevice);
    cudaGetLastError();
    NEED(cudaFree(value));
}

int main()
{
    order();
    timing();
    rows();
    boxes();
    defaults();
    return failures != 0;
}
