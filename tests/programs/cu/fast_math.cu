/* Approximations that name instructions: within the errors that the CUDA programming guide states. */
#include "check.h"

enum { COUNT = 4096, KINDS = 10 };

__global__ void kernel(const float *in, float *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float x = in[i], p = fabsf(x) + 0.01f, *o = out + i * KINDS;
    o[0] = __sinf(x);
    o[1] = __cosf(x);
    o[2] = __expf(x);
    o[3] = __logf(p);
    o[4] = __log2f(p);
    o[5] = __fdividef(x, p);
    o[6] = __powf(p, 1.5f);
    o[7] = __frsqrt_rn(p);
    o[8] = __frcp_rn(p);
    o[9] = __saturatef(x);
}

int main()
{
    Array<float> in(COUNT), out(COUNT * KINDS);
    for (int i = 0; i < COUNT; i++)
        in[i] = (random_unit() * 2 - 1) * 3.1415926f;
    in.put();
    kernel<<<COUNT / 256, 256>>>(in.device, out.device);
    out.get();
    for (int i = 0; i < COUNT; i++) {
        float x = in[i], p = fabsf(x) + 0.01f, *o = &out[i * KINDS];
        near("__sinf", i, o[0], sin((double)x), 5e-7);
        near("__cosf", i, o[1], cos((double)x), 5e-7);
        near("__expf", i, o[2], exp((double)x), 1e-6);
        near("__logf", i, o[3], log((double)p), 5e-7);
        near("__log2f", i, o[4], log2((double)p), 5e-7);
        near("__fdividef", i, o[5], (double)x / p, 3e-7);
        near("__powf", i, o[6], pow((double)p, 1.5), 2e-6);
        equal("__frsqrt_rn", i, o[7], (float)(1 / sqrt((double)p)));
        equal("__frcp_rn", i, o[8], 1 / p);
        equal("__saturatef", i, o[9], fminf(1, fmaxf(0, x)));
    }
    return finish(__FILE__);
}
