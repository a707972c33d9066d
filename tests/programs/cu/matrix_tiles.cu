/* Tiles in shared memory: a product and a transposition, of sizes that do not fit the tiles. */
#include "check.h"

enum { TILE = 16 };

__global__ void product(const float *a, const float *b, float *c, int m, int n, int k)
{
    __shared__ float as[TILE][TILE], bs[TILE][TILE + 1];
    int row = blockIdx.y * TILE + threadIdx.y, column = blockIdx.x * TILE + threadIdx.x;
    float sum = 0;
    for (int at = 0; at < k; at += TILE) {
        as[threadIdx.y][threadIdx.x] = row < m && at + threadIdx.x < k ? a[row * k + at + threadIdx.x] : 0;
        bs[threadIdx.y][threadIdx.x] = at + threadIdx.y < k && column < n ? b[(at + threadIdx.y) * n + column] : 0;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE; i++)
            sum += as[threadIdx.y][i] * bs[i][threadIdx.x];
        __syncthreads();
    }
    if (row < m && column < n)
        c[row * n + column] = sum;
}

__global__ void transpose(const double *in, double *out, int rows, int columns)
{
    __shared__ double tile[32][33];
    int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < columns && y + j < rows)
            tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * columns + x];
    __syncthreads();
    x = blockIdx.y * 32 + threadIdx.x;
    y = blockIdx.x * 32 + threadIdx.y;
    for (int j = 0; j < 32; j += 8)
        if (x < rows && y + j < columns)
            out[(y + j) * rows + x] = tile[threadIdx.x][threadIdx.y + j];
}

int main()
{
    const int m = 75, n = 53, k = 61;
    Array<float> a(m * k), b(k * n), c(m * n);
    for (int i = 0; i < m * k; i++)
        a[i] = (float)(int)(random_bits() % 17) - 8;
    for (int i = 0; i < k * n; i++)
        b[i] = (float)(int)(random_bits() % 13) - 6;
    a.put();
    b.put();
    product<<<dim3((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), dim3(TILE, TILE)>>>(a.device, b.device, c.device, m, n, k);
    c.get();
    for (int row = 0; row < m; row++)
        for (int column = 0; column < n; column++) {
            float want = 0;
            for (int i = 0; i < k; i++)
                want += a[row * k + i] * b[i * n + column];
            equal("product", row * n + column, c[row * n + column], want);
        }
    Array<double> in(m * n), out(m * n);
    for (int i = 0; i < m * n; i++)
        in[i] = i;
    in.put();
    transpose<<<dim3(2, 3), dim3(32, 8)>>>(in.device, out.device, m, n);
    out.get();
    for (int i = 0; i < m * n; i++)
        equal("transpose", i, out[(i % n) * m + i / n], (double)i);
    return finish(__FILE__);
}
