/* Memory that program and device both use by the same address. */
#include "check.h"

struct Node {
    Node *next;
    int value;
};

__global__ void increment(int *values, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        values[i] += i;
}

__global__ void walk(Node *node, int *sum)
{
    for (; node; node = node->next) {
        *sum += node->value;
        node->value = -node->value;
    }
}

int main()
{
    const int n = 10000;
    int *values, *sum;
    cudaError_t error = cudaMallocManaged(&values, n * sizeof(int));
    if (error == cudaErrorNotSupported)
        return skip(__FILE__, "cudaMallocManaged is not supported");
    NEED(error);
    /* By turns the program and the device change it. */
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < n; i++)
            values[i] = i * round;
        increment<<<(n + 127) / 128, 128>>>(values, n);
        NEED(cudaDeviceSynchronize());
        for (int i = 0; i < n; i++)
            equal("values", i, values[i], i * (round + 1));
    }
    Node *list = nullptr;
    for (int i = 0; i < 50; i++) {
        Node *node;
        NEED(cudaMallocManaged(&node, sizeof(Node)));
        node->next = list;
        node->value = i;
        list = node;
    }
    NEED(cudaMallocManaged(&sum, sizeof(int), cudaMemAttachGlobal));
    *sum = 0;
    walk<<<1, 1>>>(list, sum);
    NEED(cudaDeviceSynchronize());
    equal("sum", 0, *sum, 49 * 25);
    equal("negated", 0, list->value, -49);
    cudaPointerAttributes attributes;
    NEED(cudaPointerGetAttributes(&attributes, values));
    HOLDS(attributes.type == cudaMemoryTypeManaged);
    return finish(__FILE__);
}
