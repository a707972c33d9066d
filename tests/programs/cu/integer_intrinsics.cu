/* Functions on bits and bytes that the compiler knows. */
#include "check.h"

enum { COUNT = 2048, KINDS = 26 };

__global__ void kernel(const uint64_t *in, uint64_t *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    uint64_t A = in[i * 2], B = in[i * 2 + 1];
    uint32_t a = (uint32_t)A, b = (uint32_t)B, c = (uint32_t)(A >> 32);
    uint64_t *o = out + i * KINDS;
    o[0] = __clz(a);
    o[1] = __clzll(A);
    o[2] = __ffs(a);
    o[3] = __ffsll(A);
    o[4] = __popc(a);
    o[5] = __popcll(A);
    o[6] = __brev(a);
    o[7] = __brevll(A);
    o[8] = __byte_perm(a, b, c & 0x7777);
    o[9] = __mulhi((int)a, (int)b);
    o[10] = __umulhi(a, b);
    o[11] = __mul64hi((long long)A, (long long)B);
    o[12] = __umul64hi(A, B);
    o[13] = (uint32_t)__mul24((int)a, (int)b);
    o[14] = __umul24(a, b);
    o[15] = __sad((int)a, (int)b, c);
    o[16] = __usad(a, b, c);
    o[17] = __funnelshift_l(a, b, c);
    o[18] = __funnelshift_rc(a, b, c % 64);
    o[19] = (uint32_t)__hadd((int)a, (int)b);
    o[20] = __urhadd(a, b);
    o[21] = (uint32_t)__dp4a((int)a, (int)b, (int)c);
    o[22] = __dp4a(a, b, c);
    o[23] = (uint32_t)__dp2a_lo((int)a, (int)b, (int)c);
    o[24] = (uint32_t)__rhadd((int)a, (int)b);
    o[25] = __dp2a_hi(a, b, c);
}

static uint32_t byte_of(uint32_t x, int k) { return (x >> (8 * k)) & 255; }

static void host(uint64_t A, uint64_t B, uint64_t *o)
{
    uint32_t a = (uint32_t)A, b = (uint32_t)B, c = (uint32_t)(A >> 32);
    int s = (int)a, t = (int)b;
    o[0] = a ? __builtin_clz(a) : 32;
    o[1] = A ? __builtin_clzll(A) : 64;
    o[2] = __builtin_ffs(s);
    o[3] = __builtin_ffsll((long long)A);
    o[4] = __builtin_popcount(a);
    o[5] = __builtin_popcountll(A);
    o[6] = o[7] = o[8] = 0;
    for (int k = 0; k < 32; k++)
        o[6] |= (uint64_t)((a >> k) & 1) << (31 - k);
    for (int k = 0; k < 64; k++)
        o[7] |= ((A >> k) & 1) << (63 - k);
    for (int k = 0; k < 4; k++) {
        int from = ((c & 0x7777) >> (4 * k)) & 7;
        o[8] |= (uint64_t)byte_of(from < 4 ? a : b, from & 3) << (8 * k);
    }
    o[9] = (uint64_t)(int64_t)(int)(((int64_t)s * t) >> 32);
    o[10] = ((uint64_t)a * b) >> 32;
    o[11] = (uint64_t)(((__int128)(int64_t)A * (int64_t)B) >> 64);
    o[12] = (uint64_t)(((unsigned __int128)A * B) >> 64);
    int s24 = (int)(a << 8) >> 8, t24 = (int)(b << 8) >> 8;
    o[13] = (uint32_t)((int64_t)s24 * t24);
    o[14] = (uint32_t)((uint64_t)(a & 0xffffff) * (b & 0xffffff));
    o[15] = (uint32_t)((uint32_t)llabs((int64_t)s - t) + c);
    o[16] = (uint32_t)((a > b ? a - b : b - a) + c);
    o[17] = (uint32_t)((((uint64_t)b << 32 | a) << (c & 31)) >> 32);
    int shift = (c % 64) < 32 ? c % 64 : 32;
    o[18] = (uint32_t)((((uint64_t)b << 32) | a) >> shift);
    o[19] = (uint32_t)(((int64_t)s + t) >> 1);
    o[20] = (uint32_t)(((uint64_t)a + b + 1) >> 1);
    uint32_t signed_sum = c, sum = c, low = c, high = c;
    for (int k = 0; k < 4; k++) {
        signed_sum += (int8_t)byte_of(a, k) * (int8_t)byte_of(b, k);
        sum += byte_of(a, k) * byte_of(b, k);
    }
    for (int k = 0; k < 2; k++) {
        low += (uint32_t)((int16_t)(a >> (16 * k)) * (int8_t)byte_of(b, k));
        high += ((a >> (16 * k)) & 0xffff) * byte_of(b, k + 2);
    }
    o[21] = signed_sum;
    o[22] = sum;
    o[23] = low;
    o[24] = (uint32_t)(((int64_t)s + t + 1) >> 1);
    o[25] = high;
}

int main()
{
    Array<uint64_t> in(COUNT * 2), out(COUNT * KINDS);
    for (int i = 0; i < COUNT * 2; i++)
        in[i] = ((uint64_t)random_bits() << 32 | random_bits()) >> (i % 3 ? 0 : random_bits() % 64);
    in[0] = in[1] = 0;
    in[2] = in[3] = ~(uint64_t)0;
    in.put();
    kernel<<<COUNT / 128, 128>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        uint64_t want[KINDS];
        host(in[i * 2], in[i * 2 + 1], want);
        for (int k = 0; k < KINDS; k++)
            equal("result", i * KINDS + k, out[i * KINDS + k], want[k]);
    }
    return finish(__FILE__);
}
