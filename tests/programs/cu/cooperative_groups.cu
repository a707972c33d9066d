/* Groups of threads: blocks, tiles, those that took a branch, and what they compute together. */
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>

#include "check.h"

namespace cg = cooperative_groups;

enum { KINDS = 10 };

template <int SIZE> __device__ int tile_sum(cg::thread_block block, int mine)
{
    auto tile = cg::tiled_partition<SIZE>(block);
    for (int step = SIZE / 2; step; step /= 2)
        mine += tile.shfl_xor(mine, step);
    return mine * 100 + tile.meta_group_rank() % 100;
}

__global__ void kernel(int *out)
{
    cg::thread_block block = cg::this_thread_block();
    int rank = block.thread_rank(), *o = out + rank * KINDS;
    o[0] = tile_sum<4>(block, rank);
    o[1] = tile_sum<16>(block, rank);
    auto warp = cg::tiled_partition<32>(block);
    o[2] = cg::reduce(warp, rank, cg::plus<int>());
    o[3] = cg::inclusive_scan(warp, rank + 1);
    o[4] = cg::exclusive_scan(warp, rank, cg::greater<int>());
    o[5] = warp.ballot(rank % 3 == 0);
    o[6] = o[7] = -1;
    if (rank % 5 == 0) {
        cg::coalesced_group some = cg::coalesced_threads();
        o[6] = some.size() * 100 + some.thread_rank();
        o[7] = some.shfl(rank, some.size() - 1);
    }
    auto label = cg::labeled_partition(warp, rank % 4);
    o[8] = cg::reduce(label, rank, cg::plus<int>());
    block.sync();
    auto two = cg::binary_partition(warp, rank % 32 < 10);
    o[9] = two.size() * 100 + two.thread_rank();
}

int main()
{
    const int threads = 128;
    Array<int> out(threads * KINDS);
    kernel<<<1, threads>>>(out.device);
    out.get();
    for (int rank = 0; rank < threads; rank++) {
        int warp = rank / 32 * 32, *o = &out[rank * KINDS];
        int sum4 = 0, sum16 = 0, sum32 = 0, ballot = 0, prefix = 0, fifths = 0, before = 0, last = 0, label = 0;
        for (int i = rank / 4 * 4; i < rank / 4 * 4 + 4; i++)
            sum4 += i;
        for (int i = rank / 16 * 16; i < rank / 16 * 16 + 16; i++)
            sum16 += i;
        for (int i = warp; i < warp + 32; i++) {
            sum32 += i;
            ballot |= (i % 3 == 0) << (i - warp);
            prefix += i <= rank ? i + 1 : 0;
            if (i % 5 == 0) {
                fifths++;
                before += i < rank;
                last = i;
            }
            label += i % 4 == rank % 4 ? i : 0;
        }
        equal("tile of 4", rank, o[0], sum4 * 100 + rank / 4 % 100);
        equal("tile of 16", rank, o[1], sum16 * 100 + rank / 16);
        equal("reduce", rank, o[2], sum32);
        equal("inclusive scan", rank, o[3], prefix);
        if (rank > warp)
            equal("exclusive scan", rank, o[4], rank - 1);
        equal("ballot", rank, o[5], ballot);
        if (rank % 5 == 0) {
            equal("coalesced", rank, o[6], fifths * 100 + before);
            equal("their last", rank, o[7], last);
        }
        equal("labels", rank, o[8], label);
        equal("two parts", rank, o[9], rank % 32 < 10 ? 1000 + rank % 32 : 2200 + rank % 32 - 10);
    }
    return finish(__FILE__);
}
