/* Barriers of a block that count and vote, barriers by number, and barriers of a warp. */
#include "check.h"

__global__ void counting(int *out)
{
    int i = threadIdx.x;
    out[i * 3] = __syncthreads_count(i % 3 == 0);
    out[i * 3 + 1] = __syncthreads_and(i < 1000);
    out[i * 3 + 2] = __syncthreads_or(i == 77);
}

/* Two warps produce, two consume, over barriers 1 and 2. */
__global__ void pipeline(int *out, int rounds)
{
    __shared__ int slot[64];
    int half = threadIdx.x / 64, i = threadIdx.x % 64, sum = 0;
    for (int round = 0; round < rounds; round++) {
        if (half == 0) {
            slot[i] = round * 64 + i;
            asm volatile("bar.arrive 1, 128;" ::: "memory");
            asm volatile("bar.sync 2, 128;" ::: "memory");
        } else {
            asm volatile("bar.sync 1, 128;" ::: "memory");
            sum += slot[63 - i];
            asm volatile("bar.arrive 2, 128;" ::: "memory");
        }
    }
    if (half)
        out[i] = sum;
}

/* Lanes write, the warp meets, other lanes read. */
__global__ void warps(int *out)
{
    __shared__ volatile int slot[32];
    int lane = threadIdx.x;
    if (lane < 16) {
        slot[lane] = lane * lane;
        __syncwarp(0x0000ffff);
        out[lane] = slot[15 - lane];
    } else {
        slot[lane] = -lane;
        __syncwarp(0xffff0000);
        out[lane] = slot[47 - lane];
    }
    __syncwarp();
    out[32 + lane] = slot[31 - lane];
}

/* Threads that have left do not hold the others up. */
__global__ void leavers(int *out)
{
    __shared__ int sum;
    if (threadIdx.x == 0)
        sum = 0;
    __syncthreads();
    if (threadIdx.x % 64 >= 32)
        return;
    atomicAdd(&sum, 1);
    __syncthreads();
    out[threadIdx.x] = sum;
}

int main()
{
    Array<int> out(1024 * 3);
    counting<<<1, 1024>>>(out.device);
    out.get();
    for (int i = 0; i < 1024; i++) {
        equal("count", i, out[i * 3], 342);
        equal("and", i, out[i * 3 + 1], 0);
        equal("or", i, out[i * 3 + 2] != 0, true);
    }
    const int rounds = 20;
    pipeline<<<1, 128>>>(out.device, rounds);
    out.get();
    for (int i = 0; i < 64; i++)
        equal("pipeline", i, out[i], rounds * (rounds - 1) / 2 * 64 + rounds * (63 - i));
    warps<<<1, 32>>>(out.device);
    out.get();
    for (int lane = 0; lane < 32; lane++) {
        int other = lane < 16 ? 15 - lane : 47 - lane, mirror = 31 - lane;
        equal("syncwarp", lane, out[lane], lane < 16 ? other * other : -other);
        equal("all lanes", lane, out[32 + lane], mirror < 16 ? mirror * mirror : -mirror);
    }
    leavers<<<1, 256>>>(out.device);
    out.get();
    for (int i = 0; i < 256; i++)
        if (i % 64 < 32)
            equal("leavers", i, out[i], 128);
    return finish(__FILE__);
}
