/* Graphs by hand: nodes of all kinds that the device runs, their dependencies, and changes of them. */
#include <atomic>
#include <vector>

#include "check.h"

__global__ void affine(int *values, int n, int multiply, int add)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] = values[i] * multiply + add;
}

static void CUDART_CB count(void *data) { ++*(std::atomic<int> *)data; }

static void depend(cudaGraph_t graph, const cudaGraphNode_t *from, const cudaGraphNode_t *to)
{
#if CUDART_VERSION >= 13000
    NEED(cudaGraphAddDependencies(graph, from, to, nullptr, 1));
#else
    NEED(cudaGraphAddDependencies(graph, from, to, 1));
#endif
}

int main()
{
    int n = 300, *values, multiply = 2, add = 3;
    std::vector<int> in(n), out(n, -1), second(n, -1);
    std::atomic<int> calls{0};
    cudaStream_t stream;
    cudaGraph_t graph, child;
    cudaGraphNode_t empty, copy_in, set, kernel, copy_out, host, sub, inner;
    for (int i = 0; i < n; i++)
        in[i] = i;
    NEED(cudaStreamCreate(&stream));
    NEED(cudaMalloc(&values, 2 * n * sizeof(int)));
    NEED(cudaGraphCreate(&graph, 0));
    NEED(cudaGraphAddEmptyNode(&empty, graph, nullptr, 0));
    NEED(cudaGraphAddMemcpyNode1D(&copy_in, graph, &empty, 1, values, in.data(), n * sizeof(int), cudaMemcpyHostToDevice));
    cudaMemsetParams clear = {};
    clear.dst = values + n;
    clear.elementSize = 4;
    clear.width = n;
    clear.height = 1;
    clear.value = 7;
    NEED(cudaGraphAddMemsetNode(&set, graph, &empty, 1, &clear));
    void *arguments[] = {&values, &n, &multiply, &add};
    cudaKernelNodeParams launch = {};
    launch.func = (void *)affine;
    launch.gridDim = dim3(3);
    launch.blockDim = dim3(128);
    launch.kernelParams = arguments;
    NEED(cudaGraphAddKernelNode(&kernel, graph, nullptr, 0, &launch));
    depend(graph, &copy_in, &kernel);
    depend(graph, &set, &kernel);
    cudaHostNodeParams call = {count, &calls};
    NEED(cudaGraphAddHostNode(&host, graph, &kernel, 1, &call));
    /* A graph within: it works on what the memset left. */
    int *upper = values + n;
    void *upper_arguments[] = {&upper, &n, &multiply, &add};
    cudaKernelNodeParams upper_launch = launch;
    upper_launch.kernelParams = upper_arguments;
    NEED(cudaGraphCreate(&child, 0));
    NEED(cudaGraphAddKernelNode(&inner, child, nullptr, 0, &upper_launch));
    NEED(cudaGraphAddChildGraphNode(&sub, graph, &host, 1, child));
    NEED(cudaGraphDestroy(child)); /* it was copied */
    NEED(cudaGraphAddMemcpyNode1D(&copy_out, graph, &sub, 1, out.data(), values, n * sizeof(int), cudaMemcpyDeviceToHost));
    cudaGraphNode_t last;
    NEED(cudaGraphAddMemcpyNode1D(&last, graph, &copy_out, 1, second.data(), values + n, n * sizeof(int), cudaMemcpyDeviceToHost));

    size_t nodes = 0, roots = 0;
    cudaGraphNodeType type;
    NEED(cudaGraphGetNodes(graph, nullptr, &nodes));
    NEED(cudaGraphGetRootNodes(graph, nullptr, &roots));
    HOLDS(nodes == 8 && roots == 1);
    NEED(cudaGraphNodeGetType(sub, &type));
    HOLDS(type == cudaGraphNodeTypeGraph);
    cudaKernelNodeParams read = {};
    NEED(cudaGraphKernelNodeGetParams(kernel, &read));
    HOLDS(read.func == (void *)affine && read.gridDim.x == 3 && *(int *)read.kernelParams[3] == 3);

    cudaGraphExec_t exec;
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    bool good = true;
    for (int i = 0; i < n; i++)
        good = good && out[i] == 2 * i + 3 && second[i] == 17;
    report("all nodes run", good && calls == 1, "wrong values");

    /* The executable graph changes, the graph does not. */
    add = 50;
    NEED(cudaGraphExecKernelNodeSetParams(exec, kernel, &launch));
    clear.value = 1;
    NEED(cudaGraphExecMemsetNodeSetParams(exec, set, &clear));
    for (auto &x : in)
        x = -x;
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    good = true;
    for (int i = 0; i < n; i++)
        good = good && out[i] == -2 * i + 50 && second[i] == 5;
    report("parameters of the executable graph", good && calls == 2, "wrong values");
    NEED(cudaGraphExecMemcpyNodeSetParams1D(exec, last, second.data(), values, n * sizeof(int), cudaMemcpyDeviceToHost));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    HOLDS(second[10] == out[10] && second[10] == 30);

    /* A whole graph's new parameters. */
    NEED(cudaGraphKernelNodeSetParams(kernel, &launch));
    cudaGraphExecUpdateResultInfo info = {};
    NEED(cudaGraphExecUpdate(exec, graph, &info));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    HOLDS(second[10] == 17 && out[10] == 30 && calls == 4);
    /* Another node less: it does not fit any more. */
    NEED(cudaGraphDestroyNode(last));
    GIVES(cudaGraphExecUpdate(exec, graph, &info), cudaErrorGraphExecUpdateFailure);
    cudaGetLastError();

    /* A circle cannot be run. */
    cudaGraph_t circle;
    cudaGraphNode_t a, b;
    cudaGraphExec_t never = nullptr;
    NEED(cudaGraphCreate(&circle, 0));
    NEED(cudaGraphAddEmptyNode(&a, circle, nullptr, 0));
    NEED(cudaGraphAddEmptyNode(&b, circle, &a, 1));
#if CUDART_VERSION >= 13000
    cudaError_t first = cudaGraphAddDependencies(circle, &b, &a, nullptr, 1);
#else
    cudaError_t first = cudaGraphAddDependencies(circle, &b, &a, 1);
#endif
    HOLDS(first != cudaSuccess || cudaGraphInstantiate(&never, circle, 0) != cudaSuccess);
    cudaGetLastError();
    NEED(cudaGraphDestroy(circle));

    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaStreamDestroy(stream));
    NEED(cudaFree(values));
    return failures != 0;
}
