/* Variables of the device: their first values, addresses of each other, text, and what kernels leave in them. */
#include "check.h"

struct Item {
    const char *text;
    int *place;
    float values[2];
};

__device__ int numbers[5] = {10, 20, 30};
__device__ double pi = 3.25;
__device__ char word[] = "device text";
__device__ int *middle = &numbers[2];
__device__ Item items[2] = {{"first", numbers, {1.5f, 2.5f}}, {"second", numbers + 1, {3.5f, 4.5f}}};
__device__ short grid[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}};
__device__ __align__(64) unsigned char aligned[3] = {1, 2, 3};
static __device__ long long counter = -5;
namespace inner {
__device__ float hidden = 9.0f;
}

__device__ int next_number()
{
    static int calls = 100; /* one for all threads */
    return atomicAdd(&calls, 1);
}

__global__ void kernel(double *out)
{
    out[0] = numbers[0] + numbers[1] + numbers[2] + numbers[3] + numbers[4];
    out[1] = pi;
    out[2] = word[0] + word[10] + word[11];
    out[3] = *middle + middle[-1];
    out[4] = items[1].text[5] + *items[0].place + *items[1].place + items[0].values[1] + items[1].values[0];
    out[5] = grid[2][3] * 100 + grid[1][0];
    out[6] = (unsigned long long)aligned % 64 + aligned[2];
    out[7] = counter++;
    out[8] = inner::hidden;
    out[9] = next_number();
    numbers[4] += 1000;
}

int main()
{
    Array<double> out(10);
    for (int round = 0; round < 3; round++) {
        kernel<<<1, 1>>>(out.device);
        out.get();
        const double want[10] = {60.0 + 1000 * round, 3.25, 'd' + 't', 50, 'd' + 10 + 20 + 2.5 + 3.5, 1205, 3,
                                 -5.0 + round, 9, 100.0 + round};
        for (int i = 0; i < 10; i++)
            equal("variable", round * 10 + i, out[i], want[i]);
    }
    int values[5];
    NEED(cudaMemcpyFromSymbol(values, numbers, sizeof(values)));
    equal("left behind", 0, values[4], 3000);
    void *at, *other;
    NEED(cudaGetSymbolAddress(&at, numbers));
    NEED(cudaMemcpyFromSymbol(&other, middle, sizeof(other)));
    HOLDS((char *)other - (char *)at == 8);
    return finish(__FILE__);
}
