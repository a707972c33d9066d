// An array per thread that is indexed with values known only at run time: insertion sort of 16 elements.
extern "C" __global__ void local_sort(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    int values[16];
    for (int j = 0; j < 16; j++) {
        values[j] = in[i * 16 + j];
    }
    for (int j = 1; j < 16; j++) {
        int value = values[j], k = j;
        while (k > 0 && values[k - 1] > value) {
            values[k] = values[k - 1];
            k--;
        }
        values[k] = value;
    }
    for (int j = 0; j < 16; j++) {
        out[i * 16 + j] = values[j];
    }
}
