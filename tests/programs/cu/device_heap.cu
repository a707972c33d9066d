/* Memory that kernels ask for: it outlives them, is given back, and ends at the limit. */
#include "check.h"

struct Node {
    Node *next;
    int value;
};

__device__ Node *lists[256];
__device__ int refused;

__global__ void build(int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    Node *head = nullptr;
    for (int k = 0; k < n; k++) {
        Node *node = (Node *)malloc(sizeof(Node));
        if (!node)
            __trap();
        node->next = head;
        node->value = i * 1000 + k;
        head = node;
    }
    lists[i] = head;
}

__global__ void sum_up(int *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x, sum = 0;
    /* Another thread frees than the one that allocated. */
    for (Node *node = lists[i ^ 1]; node;) {
        Node *next = node->next;
        sum += node->value;
        free(node);
        node = next;
    }
    free(nullptr);
    out[i] = sum;
}

__global__ void by_new(int *out)
{
    int n = threadIdx.x % 7 + 1;
    double *values = new double[n];
    if ((size_t)values % 16)
        __trap();
    for (int k = 0; k < n; k++)
        values[k] = k + threadIdx.x;
    double sum = 0;
    for (int k = 0; k < n; k++)
        sum += values[k];
    delete[] values;
    out[threadIdx.x] = (int)sum;
}

/* More than there is: null, and what was got works. */
__global__ void exhaust(size_t bytes)
{
    void *kept[64];
    int got = 0;
    for (int k = 0; k < 64; k++) {
        kept[k] = malloc(bytes);
        if (kept[k])
            *(volatile char *)kept[k] = 1, got++;
        else
            refused++;
    }
    for (int k = 0; k < 64; k++)
        free(kept[k]);
    if (got == 0)
        refused = -1;
}

int main()
{
    size_t limit;
    NEED(cudaDeviceSetLimit(cudaLimitMallocHeapSize, 16 << 20));
    NEED(cudaDeviceGetLimit(&limit, cudaLimitMallocHeapSize));
    HOLDS(limit >= 16 << 20);
    const int threads = 256, n = 20;
    Array<int> out(threads);
    for (int round = 0; round < 3; round++) {
        build<<<4, 64>>>(n);
        sum_up<<<4, 64>>>(out.device);
        out.get();
        for (int i = 0; i < threads; i++)
            equal("list", i, out[i], (i ^ 1) * 1000 * n + n * (n - 1) / 2);
    }
    by_new<<<1, 256>>>(out.device);
    out.get();
    for (int i = 0; i < threads; i++) {
        int k = i % 7 + 1;
        equal("new", i, out[i], k * (k - 1) / 2 + k * i);
    }
    exhaust<<<1, 1>>>(1 << 20);
    NEED(cudaDeviceSynchronize());
    int count;
    NEED(cudaMemcpyFromSymbol(&count, refused, sizeof(count)));
    HOLDS(count > 0 && count <= 56);
    return finish(__FILE__);
}
