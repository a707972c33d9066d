/* A cooperative launch: all blocks meet, many times. */
#include <cooperative_groups.h>

#include "check.h"

namespace cg = cooperative_groups;

/* Each round every block reads what its neighbour wrote in the round before. */
__global__ void ring(int *values, int rounds)
{
    cg::grid_group grid = cg::this_grid();
    int blocks = gridDim.x, i = threadIdx.x;
    for (int round = 0; round < rounds; round++) {
        int *from = values + (round % 2) * blocks * blockDim.x;
        int *to = values + (1 - round % 2) * blocks * blockDim.x;
        to[blockIdx.x * blockDim.x + i] = from[(blockIdx.x + 1) % blocks * blockDim.x + i] + 1;
        grid.sync();
    }
}

int main()
{
    int can, blocks, processors;
    NEED(cudaDeviceGetAttribute(&can, cudaDevAttrCooperativeLaunch, 0));
    if (!can)
        return skip(__FILE__, "the device has no cooperative launches");
    NEED(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
    NEED(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, ring, 64, 0));
    HOLDS(blocks >= 1);
    int grid = blocks * processors < 12 ? blocks * processors : 12, rounds = 25;
    Array<int> values(grid * 64 * 2);
    for (int i = 0; i < grid * 64; i++)
        values[i] = i;
    values.put();
    void *arguments[] = {&values.device, &rounds};
    NEED(cudaLaunchCooperativeKernel((void *)ring, dim3(grid), dim3(64), arguments, 0, 0));
    values.get();
    int *last = values.host + (rounds % 2) * grid * 64;
    for (int block = 0; block < grid; block++)
        for (int i = 0; i < 64; i++)
            equal("ring", block * 64 + i, last[block * 64 + i], (block + rounds) % grid * 64 + i + rounds);
    /* More blocks than the device can hold at once can never meet. */
    GIVES(cudaLaunchCooperativeKernel((void *)ring, dim3(blocks * processors + 1), dim3(64), arguments, 0, 0),
          cudaErrorCooperativeLaunchTooLarge);
    cudaGetLastError();
    return finish(__FILE__);
}
