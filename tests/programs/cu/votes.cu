/* Votes, matches and reductions among lanes, whole warps and parts of them. */
#include "check.h"

enum { KINDS = 12 };

__global__ void kernel(const unsigned *in, unsigned *out)
{
    unsigned lane = threadIdx.x % 32, mine = in[threadIdx.x], *o = out + threadIdx.x * KINDS;
    const unsigned full = 0xffffffff;
    o[0] = __ballot_sync(full, mine & 1);
    o[1] = __any_sync(full, mine == 7);
    o[2] = __all_sync(full, mine < 16);
    o[3] = __uni_sync(full, mine & 8);
    o[4] = __match_any_sync(full, mine);
    int all;
    o[5] = __match_all_sync(full, mine, &all);
    o[6] = all;
    if (mine & 2) {
        unsigned some = __activemask();
        o[7] = __ballot_sync(__match_any_sync(some, 1), mine & 4);
    } else {
        o[7] = 0;
    }
    o[8] = __match_any_sync(full, (unsigned long long)mine << 40);
#if __CUDA_ARCH__ >= 800
    o[9] = __reduce_add_sync(full, mine);
    o[10] = __reduce_max_sync(full, mine) << 8 | __reduce_min_sync(full, mine);
    o[11] = __reduce_xor_sync(full, mine) << 16 | __reduce_or_sync(full, mine) << 8 | __reduce_and_sync(full, mine);
#else
    unsigned sum = mine, least = mine, most = mine, x = mine, any = mine, every = mine;
    for (int step = 1; step < 32; step *= 2) {
        sum += __shfl_xor_sync(full, sum, step);
        least = min(least, __shfl_xor_sync(full, least, step));
        most = max(most, __shfl_xor_sync(full, most, step));
        x ^= __shfl_xor_sync(full, x, step);
        any |= __shfl_xor_sync(full, any, step);
        every &= __shfl_xor_sync(full, every, step);
    }
    o[9] = sum;
    o[10] = most << 8 | least;
    o[11] = x << 16 | any << 8 | every;
#endif
    (void)lane;
}

int main()
{
    const int threads = 256;
    Array<unsigned> in(threads), out(threads * KINDS);
    for (int i = 0; i < threads; i++)
        in[i] = i / 32 == 3 ? 5 : i / 32 == 4 ? 15 : random_bits() % (i / 32 == 5 ? 200 : 16);
    in.put();
    kernel<<<1, threads>>>(in.device, out.device);
    out.get();
    for (int warp = 0; warp < threads / 32; warp++) {
        unsigned *values = &in[warp * 32];
        unsigned odd = 0, seven = 0, small = 1, eights = 0, second = 0, least = ~0u, most = 0, sum = 0, x = 0, any = 0, every = ~0u;
        for (int lane = 0; lane < 32; lane++) {
            unsigned v = values[lane];
            odd |= (v & 1) << lane;
            seven |= v == 7;
            small &= v < 16;
            eights += (v & 8) != 0;
            second |= (unsigned)((v & 6) == 6) << lane;
            least = v < least ? v : least;
            most = v > most ? v : most;
            sum += v, x ^= v, any |= v, every &= v;
        }
        for (int lane = 0; lane < 32; lane++) {
            unsigned same = 0, *o = &out[(warp * 32 + lane) * KINDS];
            for (int other = 0; other < 32; other++)
                same |= (unsigned)(values[other] == values[lane]) << other;
            unsigned want[KINDS] = {odd, seven, small, eights == 0 || eights == 32, same, same == ~0u ? ~0u : 0,
                                    same == ~0u, values[lane] & 2 ? second : 0, same, sum, most << 8 | least,
                                    x << 16 | any << 8 | every};
            for (int k = 0; k < KINDS; k++)
                equal("vote", (warp * 32 + lane) * KINDS + k, o[k], want[k]);
        }
    }
    return finish(__FILE__);
}
