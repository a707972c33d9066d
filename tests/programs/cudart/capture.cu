/* Graphs that are captured: branches, what is refused meanwhile, updates, and captures of other kinds. */
#include <vector>

#include "check.h"

__global__ void affine(int *values, int n, int multiply, int add)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] = values[i] * multiply + add;
}

static const int n = 500;
static int *values;
static cudaStream_t stream;

static int value(int i)
{
    int result = -1;
    NEED(cudaMemcpy(&result, values + i, sizeof(int), cudaMemcpyDeviceToHost));
    return result;
}

static cudaGraph_t captured(int multiply, int add, int kernels)
{
    cudaGraph_t graph;
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < kernels; i++)
        affine<<<(n + 127) / 128, 128, 0, stream>>>(values, n, multiply, add);
    NEED(cudaStreamEndCapture(stream, &graph));
    return graph;
}

static void run_often()
{
    cudaGraph_t graph = captured(2, 1, 3), clone;
    cudaGraphExec_t exec;
    NEED(cudaMemset(values, 0, n * sizeof(int)));
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphClone(&clone, graph));
    NEED(cudaGraphDestroy(graph)); /* the executable one lives on */
    for (int i = 0; i < 3; i++)
        NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    HOLDS(value(0) == 511 && value(n - 1) == 511);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphInstantiate(&exec, clone, 0));
    NEED(cudaGraphLaunch(exec, 0));
    NEED(cudaDeviceSynchronize());
    HOLDS(value(1) == 511 * 8 + 7);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(clone));
}

/* As programs do that capture the same step again and again. */
static void updates()
{
    cudaGraph_t graph = captured(1, 5, 2);
    cudaGraphExec_t exec;
    NEED(cudaMemset(values, 0, n * sizeof(int)));
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphDestroy(graph));
    for (int step = 0; step < 4; step++) {
        graph = captured(1, step, 2);
        cudaGraphExecUpdateResultInfo info = {};
        NEED(cudaGraphExecUpdate(exec, graph, &info));
        HOLDS(info.result == cudaGraphExecUpdateSuccess);
        NEED(cudaGraphLaunch(exec, stream));
        NEED(cudaGraphDestroy(graph));
    }
    NEED(cudaStreamSynchronize(stream));
    HOLDS(value(0) == 2 * (0 + 1 + 2 + 3));
    /* Another shape cannot be put into it: the old one stays. */
    graph = captured(1, 100, 3);
    cudaGraphExecUpdateResultInfo info = {};
    GIVES(cudaGraphExecUpdate(exec, graph, &info), cudaErrorGraphExecUpdateFailure);
    HOLDS(info.result == cudaGraphExecUpdateErrorTopologyChanged);
    cudaGetLastError();
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    HOLDS(value(0) == 2 * (0 + 1 + 2 + 3 + 3));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaGraphExecDestroy(exec));
}

static void branches()
{
    const int sides = 3;
    cudaStream_t side[sides];
    cudaEvent_t fork, join[sides];
    std::vector<int> host(n);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    int *parts;
    NEED(cudaMalloc(&parts, sides * n * sizeof(int)));
    NEED(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    for (int i = 0; i < sides; i++) {
        NEED(cudaStreamCreateWithFlags(&side[i], cudaStreamNonBlocking));
        NEED(cudaEventCreateWithFlags(&join[i], cudaEventDisableTiming));
    }
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    NEED(cudaMemsetAsync(parts, 0, sides * n * sizeof(int), stream));
    NEED(cudaEventRecord(fork, stream));
    for (int i = 0; i < sides; i++) {
        NEED(cudaStreamWaitEvent(side[i], fork, 0));
        affine<<<4, 128, 0, side[i]>>>(parts + i * n, n, 1, i + 1);
        cudaStreamCaptureStatus status;
        NEED(cudaStreamIsCapturing(side[i], &status));
        HOLDS(status == cudaStreamCaptureStatusActive);
        NEED(cudaEventRecord(join[i], side[i]));
        NEED(cudaStreamWaitEvent(stream, join[i], 0));
    }
    NEED(cudaMemcpyAsync(host.data(), parts + n, n * sizeof(int), cudaMemcpyDeviceToHost, stream));
    NEED(cudaStreamEndCapture(stream, &graph));
    size_t nodes = 0, roots = 0;
    NEED(cudaGraphGetNodes(graph, nullptr, &nodes));
    NEED(cudaGraphGetRootNodes(graph, nullptr, &roots));
    HOLDS(nodes == 5 && roots == 1);
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    bool good = true;
    for (int x : host)
        good = good && x == 2;
    report("branches join", good, "wrong values");
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
    for (int i = 0; i < sides; i++) {
        NEED(cudaStreamDestroy(side[i]));
        NEED(cudaEventDestroy(join[i]));
    }
    NEED(cudaEventDestroy(fork));
    NEED(cudaFree(parts));
}

static void refused()
{
    cudaGraph_t graph = nullptr;
    cudaStreamCaptureStatus status;
    NEED(cudaStreamIsCapturing(stream, &status));
    HOLDS(status == cudaStreamCaptureStatusNone);
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorIllegalState);
    GIVES(cudaStreamBeginCapture(cudaStreamLegacy, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
    /* Waiting for a stream that is captured ends the capture. */
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    affine<<<1, 1, 0, stream>>>(values, 1, 1, 0);
    GIVES(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
    NEED(cudaStreamIsCapturing(stream, &status));
    HOLDS(status == cudaStreamCaptureStatusInvalidated);
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    HOLDS(graph == nullptr);
    cudaGetLastError();
    /* A branch that does not come back. */
    cudaStream_t side;
    cudaEvent_t fork;
    NEED(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking));
    NEED(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    NEED(cudaEventRecord(fork, stream));
    NEED(cudaStreamWaitEvent(side, fork, 0));
    affine<<<1, 1, 0, side>>>(values, 1, 1, 0);
    GIVES(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
    cudaGetLastError();
    /* The streams work as before. */
    NEED(cudaMemset(values, 0, n * sizeof(int)));
    affine<<<1, 1, 0, side>>>(values, 1, 1, 4);
    NEED(cudaStreamSynchronize(side));
    HOLDS(value(0) == 4);
    NEED(cudaEventDestroy(fork));
    NEED(cudaStreamDestroy(side));
}

int main()
{
    NEED(cudaMalloc(&values, n * sizeof(int)));
    NEED(cudaStreamCreate(&stream));
    run_often();
    updates();
    branches();
    refused();
    NEED(cudaStreamDestroy(stream));
    NEED(cudaFree(values));
    return failures != 0;
}
