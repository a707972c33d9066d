/* NVIDIA's library of parallel algorithms, compiled with the program: device-wide and in blocks. */
#include <cub/cub.cuh>

#include "check.h"

__global__ void blocks(const int *in, int *out)
{
    typedef cub::BlockRadixSort<int, 64, 4> Sort;
    typedef cub::BlockScan<int, 64> Scan;
    typedef cub::BlockReduce<int, 64> Reduce;
    __shared__ union {
        typename Sort::TempStorage sort;
        typename Scan::TempStorage scan;
        typename Reduce::TempStorage reduce;
    } shared;
    int mine[4];
    for (int k = 0; k < 4; k++)
        mine[k] = in[threadIdx.x * 4 + k];
    Sort(shared.sort).Sort(mine);
    for (int k = 0; k < 4; k++)
        out[threadIdx.x * 4 + k] = mine[k];
    __syncthreads();
    int sum;
    Scan(shared.scan).ExclusiveSum((int)threadIdx.x, sum);
    out[256 + threadIdx.x] = sum;
    __syncthreads();
    int total = Reduce(shared.reduce).Sum(mine[3]);
    if (threadIdx.x == 0)
        out[320] = total;
}

static int compare(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

int main()
{
    const int n = 20000;
    Array<int> in(n), out(n), sum(1);
    for (int i = 0; i < n; i++)
        in[i] = (int)random_bits() >> 12;
    in.put();
    size_t bytes = 0, most = 0;
    NEED(cub::DeviceRadixSort::SortKeys(nullptr, bytes, in.device, out.device, n));
    most = bytes;
    NEED(cub::DeviceScan::InclusiveSum(nullptr, bytes, in.device, out.device, n));
    most = bytes > most ? bytes : most;
    NEED(cub::DeviceReduce::Sum(nullptr, bytes, in.device, sum.device, n));
    most = bytes > most ? bytes : most;
    Array<char> temporary(most);
    bytes = most;
    NEED(cub::DeviceScan::InclusiveSum(temporary.device, bytes, in.device, out.device, n));
    out.get();
    int want = 0;
    for (int i = 0; i < n; i++) {
        want += in[i];
        equal("scan", i, out[i], want);
    }
    bytes = most;
    NEED(cub::DeviceReduce::Sum(temporary.device, bytes, in.device, sum.device, n));
    sum.get();
    equal("reduce", 0, sum[0], want);
    bytes = most;
    NEED(cub::DeviceRadixSort::SortKeys(temporary.device, bytes, in.device, out.device, n));
    out.get();
    Array<int> sorted(n);
    memcpy(sorted.host, in.host, n * sizeof(int));
    qsort(sorted.host, n, sizeof(int), compare);
    for (int i = 0; i < n; i++)
        equal("sort", i, out[i], sorted[i]);

    blocks<<<1, 64>>>(in.device, out.device);
    out.get();
    qsort(in.host, 256, sizeof(int), compare);
    want = 0;
    for (int i = 0; i < 256; i++) {
        equal("block sort", i, out[i], in[i]);
        want += i % 4 == 3 ? in[i] : 0;
    }
    for (int i = 0; i < 64; i++)
        equal("block scan", i, out[256 + i], i * (i - 1) / 2);
    equal("block reduce", 0, out[320], want);
    return finish(__FILE__);
}
