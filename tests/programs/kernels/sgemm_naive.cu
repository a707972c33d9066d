// c = a * b, row-major, m x k by k x n; the sum runs over k in order.
extern "C" __global__ void sgemm_naive(const float *a, const float *b, float *c, int m, int n, int k)
{
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (row < m && column < n) {
        float sum = 0.0f;
        for (int i = 0; i < k; i++) {
            sum = __fmaf_rn(a[row * k + i], b[i * n + column], sum);
        }
        c[row * n + column] = sum;
    }
}
