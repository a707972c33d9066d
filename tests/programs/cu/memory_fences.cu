/* The last block that comes finishes the sum: fences order what the others wrote. */
#include "check.h"

enum { BLOCKS = 64, THREADS = 128 };

__device__ unsigned arrived;
__device__ volatile float partial[BLOCKS];

__global__ void sum(const float *in, float *out, int n)
{
    __shared__ float shared[THREADS];
    __shared__ bool last;
    float mine = 0;
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += BLOCKS * THREADS)
        mine += in[i];
    shared[threadIdx.x] = mine;
    __syncthreads();
    for (int step = THREADS / 2; step; step /= 2) {
        if (threadIdx.x < step)
            shared[threadIdx.x] += shared[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = shared[0];
        __threadfence();
        last = atomicInc(&arrived, BLOCKS - 1) == BLOCKS - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float all = 0;
        for (int i = 0; i < BLOCKS; i++)
            all += partial[i];
        *out = all;
    }
}

/* Two threads of different blocks hand a value back and forth. */
__global__ void ping_pong(volatile int *ball, int rounds)
{
    if (threadIdx.x)
        return;
    for (int round = 0; round < rounds; round++) {
        while (*ball != round * 2 + (int)blockIdx.x)
            ;
        __threadfence_system();
        *ball = round * 2 + blockIdx.x + 1;
        __threadfence_block();
    }
}

int main()
{
    const int n = 100000;
    Array<float> in(n), out(1);
    double want = 0;
    for (int i = 0; i < n; i++)
        want += in[i] = (float)(random_bits() % 64);
    in.put();
    for (int round = 0; round < 3; round++) {
        sum<<<BLOCKS, THREADS>>>(in.device, out.device, n);
        out.get();
        equal("sum", round, (double)out[0], want);
    }
    Array<int> ball(1);
    ball.put();
    ping_pong<<<2, 32>>>(ball.device, 50);
    ball.get();
    equal("ping pong", 0, ball[0], 100);
    return finish(__FILE__);
}
