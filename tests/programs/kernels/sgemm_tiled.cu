// c = a * b by 16 x 16 tiles in shared memory, two barriers per tile; any m, n, k.
#define TILE 16

extern "C" __global__ void sgemm_tiled(const float *a, const float *b, float *c, int m, int n, int k)
{
    __shared__ float tile_a[TILE][TILE];
    __shared__ float tile_b[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y;
    int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
    float sum = 0.0f;
    for (int base = 0; base < k; base += TILE) {
        tile_a[y][x] = row < m && base + x < k ? a[row * k + base + x] : 0.0f;
        tile_b[y][x] = base + y < k && column < n ? b[(base + y) * n + column] : 0.0f;
        __syncthreads();
        for (int i = 0; i < TILE; i++) {
            sum = __fmaf_rn(tile_a[y][i], tile_b[i][x], sum);
        }
        __syncthreads();
    }
    if (row < m && column < n) {
        c[row * n + column] = sum;
    }
}
