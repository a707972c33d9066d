/* Functions on the bytes and halfwords of a word. */
#include "check.h"

enum { COUNT = 1024, KINDS = 14 };

__global__ void kernel(const uint32_t *in, uint32_t *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t a = in[i * 2], b = in[i * 2 + 1], *o = out + i * KINDS;
    o[0] = __vadd4(a, b);
    o[1] = __vsub4(a, b);
    o[2] = __vaddss4(a, b);
    o[3] = __vsubus4(a, b);
    o[4] = __vabsdiffu4(a, b);
    o[5] = __vmaxs4(a, b);
    o[6] = __vminu4(a, b);
    o[7] = __vcmpgtu4(a, b);
    o[8] = __vadd2(a, b);
    o[9] = __vmaxs2(a, b);
    o[10] = __vcmpeq2(a, b);
    o[11] = __vavgu4(a, b);
    o[12] = __vsadu4(a, b);
    o[13] = __vneg4(a);
}

template <class F> static uint32_t lanes(uint32_t a, uint32_t b, int bits, F f)
{
    uint32_t mask = (1u << bits) - 1, result = 0;
    for (int at = 0; at < 32; at += bits)
        result |= ((uint32_t)f((a >> at) & mask, (b >> at) & mask) & mask) << at;
    return result;
}

static int clamp(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

int main()
{
    Array<uint32_t> in(COUNT * 2), out(COUNT * KINDS);
    for (int i = 0; i < COUNT * 2; i++)
        in[i] = i % 8 == 7 ? in[i - 1] ^ (random_bits() & 0xffff) : random_bits();
    in.put();
    kernel<<<COUNT / 128, 128>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        uint32_t a = in[i * 2], b = in[i * 2 + 1], want[KINDS];
        typedef uint32_t u;
        want[0] = lanes(a, b, 8, [](u x, u y) { return x + y; });
        want[1] = lanes(a, b, 8, [](u x, u y) { return x - y; });
        want[2] = lanes(a, b, 8, [](u x, u y) { return clamp((int8_t)x + (int8_t)y, -128, 127); });
        want[3] = lanes(a, b, 8, [](u x, u y) { return clamp((int)x - (int)y, 0, 255); });
        want[4] = lanes(a, b, 8, [](u x, u y) { return x > y ? x - y : y - x; });
        want[5] = lanes(a, b, 8, [](u x, u y) { return (int8_t)x > (int8_t)y ? x : y; });
        want[6] = lanes(a, b, 8, [](u x, u y) { return x < y ? x : y; });
        want[7] = lanes(a, b, 8, [](u x, u y) { return x > y ? 255u : 0u; });
        want[8] = lanes(a, b, 16, [](u x, u y) { return x + y; });
        want[9] = lanes(a, b, 16, [](u x, u y) { return (int16_t)x > (int16_t)y ? x : y; });
        want[10] = lanes(a, b, 16, [](u x, u y) { return x == y ? 0xffffu : 0u; });
        want[11] = lanes(a, b, 8, [](u x, u y) { return (x + y + 1) / 2; });
        want[12] = 0;
        for (int k = 0; k < 4; k++)
            want[12] += (uint32_t)abs((int)((a >> 8 * k) & 255) - (int)((b >> 8 * k) & 255));
        want[13] = lanes(a, b, 8, [](u x, u) { return 0u - x; });
        for (int k = 0; k < KINDS; k++)
            equal("word", i * KINDS + k, out[i * KINDS + k], want[k]);
    }
    return finish(__FILE__);
}
