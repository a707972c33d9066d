/* Clocks go forward, sleeping returns, and special registers say where a thread is. */
#include "check.h"

struct Seen {
    long long clocks, nanoseconds;
    int ordered;
    unsigned lane, warp, warps, processor, processors, less, below_or_equal, grid;
};

__global__ void kernel(Seen *out, unsigned *sink)
{
    Seen *o = out + blockIdx.x * blockDim.x + threadIdx.x;
    long long start = clock64(), before, after;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(before));
    unsigned x = threadIdx.x;
    for (int i = 0; i < 100; i++)
        x = x * 1664525 + 1013904223;
    __nanosleep(2000);
    *sink = x;
    long long end = clock64();
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(after));
    o->clocks = end - start;
    o->nanoseconds = after - before;
    clock_t a = clock(), b = clock();
    o->ordered = (int)(b - a) >= 0;
    asm("mov.u32 %0, %%laneid;" : "=r"(o->lane));
    asm volatile("mov.u32 %0, %%warpid;" : "=r"(o->warp));
    asm("mov.u32 %0, %%nwarpid;" : "=r"(o->warps));
    asm volatile("mov.u32 %0, %%smid;" : "=r"(o->processor));
    asm("mov.u32 %0, %%nsmid;" : "=r"(o->processors));
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(o->less));
    asm("mov.u32 %0, %%lanemask_le;" : "=r"(o->below_or_equal));
    asm("{ .reg .u64 g; mov.u64 g, %%gridid; cvt.u32.u64 %0, g; }" : "=r"(o->grid));
}

int main()
{
    const int threads = 96, blocks = 3;
    Array<Seen> out(threads * blocks);
    Array<unsigned> sink(1);
    kernel<<<blocks, threads>>>(out.device, sink.device);
    out.get();
    for (int i = 0; i < threads * blocks; i++) {
        Seen &s = out[i];
        HOLDS(s.clocks > 0 && s.nanoseconds >= 0 && s.ordered);
        unsigned lane = i % threads % 32;
        equal("lane", i, s.lane, lane);
        HOLDS(s.warp < s.warps && s.processor < s.processors);
        equal("lanes below", i, s.less, (1u << lane) - 1);
        equal("and itself", i, s.below_or_equal, (unsigned)((2ull << lane) - 1));
        equal("grid", i, s.grid, out[0].grid);
    }
    return finish(__FILE__);
}
