/* Arrays of each thread at places known only when it runs, and 16 KiB of them. */
#include "check.h"

__device__ __noinline__ int by_address(int *values, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++)
        sum += values[i] * (i + 1);
    return sum;
}

__global__ void kernel(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    int counts[16] = {}, order[32];
    for (int k = 0; k < n; k++)
        counts[in[(i + k) % 64] % 16]++;
    for (int k = 0; k < 32; k++)
        order[k] = k;
    /* A shuffle of its own. */
    unsigned state = i + 1;
    for (int k = 31; k > 0; k--) {
        state = state * 1103515245 + 12345;
        int j = (state >> 16) % (k + 1), t = order[k];
        order[k] = order[j];
        order[j] = t;
    }
    out[i] = by_address(counts, 16) * 10000 + by_address(order, 32);
}

__global__ void large(int *out)
{
    int values[4096];
    for (int k = 0; k < 4096; k++)
        values[(k * 7 + threadIdx.x) % 4096] = k;
    int sum = 0;
    for (int k = 0; k < 4096; k += 5)
        sum += values[(k + sum) & 4095] & 3;
    out[threadIdx.x] = sum;
}

__global__ void bytes(int *out)
{
    unsigned char raw[24];
    for (int k = 0; k < 24; k++)
        raw[k] = (unsigned char)(threadIdx.x + k);
    double d;
    memcpy(&d, raw + 8, 8);
    memcpy(raw, &d, 8);
    struct {
        char c;
        short s;
        int i;
    } mixed = {(char)raw[threadIdx.x % 8], (short)-raw[1], raw[2]};
    out[threadIdx.x] = mixed.c + mixed.s * 3 + mixed.i * 5;
}

int main()
{
    const int threads = 64, n = 40;
    Array<int> in(64), out(threads);
    for (int i = 0; i < 64; i++)
        in[i] = (int)(random_bits() % 1000);
    in.put();
    kernel<<<2, 32>>>(in.device, out.device, n);
    out.get();
    for (int i = 0; i < threads; i++) {
        int counts[16] = {}, order[32], first = 0, second = 0;
        for (int k = 0; k < n; k++)
            counts[in[(i + k) % 64] % 16]++;
        for (int k = 0; k < 32; k++)
            order[k] = k;
        unsigned state = i + 1;
        for (int k = 31; k > 0; k--) {
            state = state * 1103515245 + 12345;
            int j = (state >> 16) % (k + 1), t = order[k];
            order[k] = order[j];
            order[j] = t;
        }
        for (int k = 0; k < 16; k++)
            first += counts[k] * (k + 1);
        for (int k = 0; k < 32; k++)
            second += order[k] * (k + 1);
        equal("arrays", i, out[i], first * 10000 + second);
    }
    large<<<1, threads>>>(out.device);
    out.get();
    for (int i = 0; i < threads; i++) {
        static int values[4096];
        int sum = 0;
        for (int k = 0; k < 4096; k++)
            values[(k * 7 + i) % 4096] = k;
        for (int k = 0; k < 4096; k += 5)
            sum += values[(k + sum) & 4095] & 3;
        equal("large", i, out[i], sum);
    }
    bytes<<<1, threads>>>(out.device);
    out.get();
    for (int i = 0; i < threads; i++)
        equal("bytes", i, out[i], (i + i % 8 + 8) - (i + 9) * 3 + (i + 10) * 5);
    return finish(__FILE__);
}
