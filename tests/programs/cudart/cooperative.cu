/* Grids whose blocks meet, and how many blocks fit. */
#include <cooperative_groups.h>
#include <vector>

#include "check.h"

namespace cg = cooperative_groups;

__global__ void prefix(int *values, int *totals)
{
    cg::grid_group grid = cg::this_grid();
    if (threadIdx.x == 0) {
        int sum = 0;
        for (unsigned i = 0; i < blockDim.x; i++)
            sum += values[blockIdx.x * blockDim.x + i];
        totals[blockIdx.x] = sum;
    }
    grid.sync();
    int before = 0;
    for (unsigned b = 0; b < blockIdx.x; b++)
        before += totals[b];
    __syncthreads();
    int sum = before;
    for (unsigned i = 0; i <= threadIdx.x; i++)
        sum += values[blockIdx.x * blockDim.x + i];
    grid.sync();
    values[grid.thread_rank()] = sum;
}

__global__ void large_shared(int *out)
{
    extern __shared__ int shared[];
    shared[threadIdx.x] = 1;
    *out = shared[0];
}

__global__ void __launch_bounds__(128) bounded(int *out) { *out = threadIdx.x; }

/* All blocks of a grid meet; `most` can run at once. */
static void together(int most)
{
    int count = most < 10 ? most : 10;
    std::vector<int> host(count * 128);
    for (size_t i = 0; i < host.size(); i++)
        host[i] = (int)(i % 7);
    int *values, *totals;
    NEED(cudaMalloc(&values, host.size() * sizeof(int)));
    NEED(cudaMalloc(&totals, count * sizeof(int)));
    NEED(cudaMemcpy(values, host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice));
    void *arguments[] = {&values, &totals};
    NEED(cudaLaunchCooperativeKernel((void *)prefix, count, 128, arguments, 0, 0));
    std::vector<int> out(host.size());
    NEED(cudaMemcpy(out.data(), values, host.size() * sizeof(int), cudaMemcpyDeviceToHost));
    bool good = true;
    int sum = 0;
    for (size_t i = 0; i < host.size(); i++) {
        sum += host[i];
        good = good && out[i] == sum;
    }
    report("all blocks meet", good, "wrong sums");
    /* By attribute. */
    NEED(cudaMemcpy(values, host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice));
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = count;
    config.blockDim = 128;
    config.attrs = &attribute;
    config.numAttrs = 1;
    NEED(cudaLaunchKernelEx(&config, prefix, values, totals));
    NEED(cudaMemcpy(out.data(), values, host.size() * sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(out.back() == sum);
    /* As a node of a graph, twice: the second launch sums up what the first has left. */
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    NEED(cudaMemcpy(values, host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice));
    NEED(cudaStreamCreate(&stream));
    NEED(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    NEED(cudaLaunchCooperativeKernel((void *)prefix, count, 128, arguments, 0, stream));
    NEED(cudaStreamEndCapture(stream, &graph));
    NEED(cudaGraphInstantiate(&exec, graph, 0));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaGraphLaunch(exec, stream));
    NEED(cudaStreamSynchronize(stream));
    int all = 0;
    for (int sum_of_sums = 0, i = 0, to = 0; i < (int)host.size(); i++)
        all = sum_of_sums += to += host[i];
    NEED(cudaMemcpy(out.data(), values, host.size() * sizeof(int), cudaMemcpyDeviceToHost));
    HOLDS(out.back() == all);
    NEED(cudaGraphExecDestroy(exec));
    NEED(cudaGraphDestroy(graph));
    NEED(cudaStreamDestroy(stream));
    GIVES(cudaLaunchCooperativeKernel((void *)prefix, most + 1, 128, arguments, 0, 0), cudaErrorCooperativeLaunchTooLarge);
    GIVES(cudaLaunchCooperativeKernel((void *)prefix, 1, 2048, arguments, 0, 0), cudaErrorInvalidConfiguration);
    cudaGetLastError();
    NEED(cudaFree(values));
    NEED(cudaFree(totals));
}

int main()
{
    int blocks, processors, per_processor, threads, shared;
    NEED(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
    NEED(cudaDeviceGetAttribute(&threads, cudaDevAttrMaxThreadsPerMultiProcessor, 0));
    NEED(cudaDeviceGetAttribute(&per_processor, cudaDevAttrMaxBlocksPerMultiprocessor, 0));
    NEED(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, 0));
    NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, prefix, 128, 0));
    HOLDS(blocks >= 1 && blocks * 128 <= threads && blocks <= per_processor);
    int can;
    NEED(cudaDeviceGetAttribute(&can, cudaDevAttrCooperativeLaunch, 0));
    if (can) {
        together(blocks * processors);
    } else {
        void *arguments[] = {nullptr, nullptr};
        GIVES(cudaLaunchCooperativeKernel((void *)prefix, 1, 128, arguments, 0, 0), cudaErrorNotSupported);
        HOLDS(cudaGetLastError() == cudaErrorNotSupported);
        printf("SKIP blocks that meet: the device has no cooperative launches\n");
    }

    /* Shared memory limits how many fit; the driver keeps 1 KiB for each block. */
    NEED(cudaFuncSetAttribute(large_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024));
    for (int bytes : {1024, 20 * 1024, 64 * 1024}) {
        NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, large_shared, 64, bytes));
        HOLDS(blocks >= 1 && blocks <= shared / bytes && blocks <= threads / 64 && blocks <= per_processor);
        HOLDS(blocks >= shared / (bytes + 2048) || blocks == per_processor || blocks == threads / 64);
    }
    size_t room;
    NEED(cudaOccupancyAvailableDynamicSMemPerBlock(&room, large_shared, 2, 64));
    HOLDS(room > 0 && room <= (size_t)shared / 2);
    int least, best;
    NEED(cudaOccupancyMaxPotentialBlockSize(&least, &best, bounded, 0, 0));
    HOLDS(best > 0 && best <= 128 && least >= processors);
    NEED(cudaOccupancyMaxPotentialBlockSize(&least, &best, prefix, 0, 0));
    HOLDS(best % 32 == 0 && best <= 1024);
    NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, bounded, 256, 0));
    HOLDS(blocks == 0);
    GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, prefix, 0, 0), cudaErrorInvalidValue);
    GIVES(cudaOccupancyMaxActiveBlocksPerMultiprocessor(nullptr, prefix, 32, 0), cudaErrorInvalidValue);
    cudaGetLastError();
    bounded<<<1, 256>>>(nullptr); /* too many threads for this kernel */
    GIVES(cudaGetLastError(), cudaErrorLaunchOutOfResources);
    return failures != 0;
}
