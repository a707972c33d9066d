/* Instructions written by hand: carries, predicates, bit fields, three-input logic, permutations. */
#include "check.h"

enum { COUNT = 1024, KINDS = 10 };

__global__ void kernel(const uint32_t *in, uint32_t *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2], *o = out + i * KINDS;
    uint32_t low, middle, high;
    asm("add.cc.u32 %0, %3, %4;\n\taddc.cc.u32 %1, %4, %5;\n\taddc.u32 %2, 0, 0;"
        : "=r"(low), "=r"(middle), "=r"(high)
        : "r"(a), "r"(b), "r"(c));
    o[0] = low, o[1] = middle, o[2] = high;
    asm("{ .reg .u64 w; mad.wide.u32 w, %1, %2, 7; cvt.u32.u64 %0, w; }" : "=r"(o[3]) : "r"(a), "r"(b));
    asm("bfe.u32 %0, %1, %2, %3;" : "=r"(o[4]) : "r"(a), "r"(b % 40), "r"(c % 40));
    asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(o[5]) : "r"(a), "r"(b), "r"(c % 32), "r"(7));
    asm("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(o[6]) : "r"(a), "r"(b), "r"(c));
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(o[7]) : "r"(a), "r"(b), "r"(c & 0xffff));
    asm("{ .reg .pred p, q; setp.eq.u32 q, 0, 0; setp.lt.and.s32 p, %1, %2, q; @p mov.u32 %0, 1; @!p mov.u32 %0, 2; }"
        : "=r"(o[8])
        : "r"(a), "r"(b));
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %1, 0; selp.b32 %0, %2, %3, p; }"
                 : "=r"(o[9])
                 : "r"(a & 1), "r"(b), "r"(c));
}

int main()
{
    Array<uint32_t> in(COUNT * 3), out(COUNT * KINDS);
    for (int i = 0; i < COUNT * 3; i++)
        in[i] = i % 5 ? random_bits() : ~0u;
    in.put();
    kernel<<<COUNT / 64, 64>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        uint32_t a = in[i * 3], b = in[i * 3 + 1], c = in[i * 3 + 2], *o = &out[i * KINDS];
        uint64_t first = (uint64_t)a + b, second = (uint64_t)b + c + (first >> 32);
        equal("add.cc", i, o[0], (uint32_t)first);
        equal("addc.cc", i, o[1], (uint32_t)second);
        equal("addc", i, o[2], (uint32_t)(second >> 32));
        equal("mad.wide", i, o[3], (uint32_t)((uint64_t)a * b + 7));
        uint32_t at = b % 40, length = c % 40;
        uint32_t field = at > 31 || length == 0 ? 0 : a >> at;
        equal("bfe", i, o[4], length < 32 ? field & ((1u << length) - 1) : field);
        uint32_t place = c % 32;
        uint32_t mask = (uint32_t)((uint64_t)0x7f << place);
        equal("bfi", i, o[5], (b & ~mask) | ((uint32_t)((uint64_t)a << place) & mask));
        equal("lop3", i, o[6], a ^ b ^ c);
        uint32_t permuted = 0;
        for (int k = 0; k < 4; k++) {
            uint32_t pick = (c >> (4 * k)) & 15;
            uint32_t byte = (uint32_t)(((uint64_t)b << 32 | a) >> (8 * (pick & 7))) & 255;
            if (pick & 8)
                byte = byte & 128 ? 255 : 0;
            permuted |= byte << (8 * k);
        }
        equal("prmt", i, o[7], permuted);
        equal("setp", i, o[8], (int)a < (int)b ? 1u : 2u);
        equal("selp", i, o[9], a & 1 ? b : c);
    }
    return finish(__FILE__);
}
