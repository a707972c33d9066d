/* Lanes go their own ways: loops of different lengths, ways out in the middle, switches and jumps. */
#include "check.h"

__host__ __device__ static int walk(int i)
{
    int sum = 0;
    for (int a = 0; a < i % 13; a++) {
        if (a == 7)
            break;
        if ((a + i) % 3 == 0)
            continue;
        for (int b = a; b < i % 5 + a; b++) {
            switch ((a * b + i) % 6) {
            case 0: sum += 1; break;
            case 1: sum += 10; /* and on */
            case 2: sum ^= 0x55; break;
            case 4: sum -= b; goto next;
            case 5: sum *= 3; break;
            default: sum += a;
            }
            if (sum > 5000)
                return sum - i;
        }
    next:
        sum += a;
    }
    int n = i + 1, steps = 0;
    while (n != 1 && steps < 200) {
        n = n % 2 ? 3 * n + 1 : n / 2;
        steps++;
    }
    do {
        sum += steps;
        steps /= 3;
    } while (steps > 0);
    return sum;
}

__global__ void kernel(int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    out[i] = walk(i);
}

/* Barriers inside a loop that all threads run equally often, with divergent work between. */
__global__ void with_barriers(int *out)
{
    __shared__ int shared[64];
    int i = threadIdx.x;
    shared[i] = i;
    for (int round = 0; round < 10; round++) {
        __syncthreads();
        int x = shared[(i * 5 + round) % 64];
        if (i % 3 == round % 3)
            for (int k = 0; k < i % 7; k++)
                x += k;
        __syncthreads();
        shared[i] = x;
    }
    out[i] = shared[i];
}

int main()
{
    const int n = 1000;
    Array<int> out(n);
    kernel<<<(n + 95) / 96, 96>>>(out.device, n);
    out.get();
    for (int i = 0; i < n; i++)
        equal("walk", i, out[i], walk(i));
    with_barriers<<<1, 64>>>(out.device);
    out.get();
    int shared[64], next[64];
    for (int i = 0; i < 64; i++)
        shared[i] = i;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 64; i++) {
            next[i] = shared[(i * 5 + round) % 64];
            if (i % 3 == round % 3)
                next[i] += (i % 7) * (i % 7 - 1) / 2;
        }
        memcpy(shared, next, sizeof(shared));
    }
    for (int i = 0; i < 64; i++)
        equal("barriers", i, out[i], shared[i]);
    return finish(__FILE__);
}
