/* Work that is recorded once and run often. */
#include "check.h"

__global__ void add(int *values, int n, int amount)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] += amount;
}

__global__ void join(int *to, const int *a, const int *b, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        to[i] = a[i] * 1000 + b[i];
}

int main()
{
    const int n = 1000;
    Array<int> a(n), b(n), c(n);
    a.put();
    b.put();
    cudaStream_t stream, side;
    cudaEvent_t fork, back;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaStreamCreate(&side));
    NEED(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    NEED(cudaEventCreateWithFlags(&back, cudaEventDisableTiming));
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
    if (error == cudaErrorNotSupported)
        return skip(__FILE__, "cudaStreamBeginCapture is not supported");
    NEED(error);
    NEED(cudaEventRecord(fork, stream));
    NEED(cudaStreamWaitEvent(side, fork, 0));
    add<<<4, 256, 0, stream>>>(a.device, n, 1);
    add<<<4, 256, 0, side>>>(b.device, n, 2);
    NEED(cudaEventRecord(back, side));
    NEED(cudaStreamWaitEvent(stream, back, 0));
    join<<<4, 256, 0, stream>>>(c.device, a.device, b.device, n);
    cudaGraph_t graph;
    NEED(cudaStreamEndCapture(stream, &graph));
    size_t nodes = 0;
    NEED(cudaGraphGetNodes(graph, nullptr, &nodes));
    equal<size_t>("nodes", 0, nodes, 3);
    cudaGraphExec_t exec;
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    a.get();
    equal("not yet", 0, a[0], 0);
    for (int round = 0; round < 5; round++)
        NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    c.get();
    for (int i = 0; i < n; i++)
        equal("joined", i, c[i], 5010);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
    return finish(__FILE__);
}
