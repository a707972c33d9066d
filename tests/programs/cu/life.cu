/* A world of cells, a hundred steps, with its neighbourhood in shared memory. */
#include "check.h"

enum { SIDE = 96, TILE = 16 };

__global__ void step(const unsigned char *from, unsigned char *to)
{
    __shared__ unsigned char tile[TILE + 2][TILE + 2];
    int x0 = blockIdx.x * TILE, y0 = blockIdx.y * TILE;
    for (int i = threadIdx.y * TILE + threadIdx.x; i < (TILE + 2) * (TILE + 2); i += TILE * TILE) {
        int x = (x0 + i % (TILE + 2) - 1 + SIDE) % SIDE, y = (y0 + i / (TILE + 2) - 1 + SIDE) % SIDE;
        tile[i / (TILE + 2)][i % (TILE + 2)] = from[y * SIDE + x];
    }
    __syncthreads();
    int count = 0;
    for (int dy = 0; dy < 3; dy++)
        for (int dx = 0; dx < 3; dx++)
            count += (dx != 1 || dy != 1) && tile[threadIdx.y + dy][threadIdx.x + dx];
    bool alive = tile[threadIdx.y + 1][threadIdx.x + 1];
    to[(y0 + threadIdx.y) * SIDE + x0 + threadIdx.x] = count == 3 || (alive && count == 2);
}

int main()
{
    Array<unsigned char> a(SIDE * SIDE), b(SIDE * SIDE), want(SIDE * SIDE), next(SIDE * SIDE);
    for (int i = 0; i < SIDE * SIDE; i++)
        want[i] = a[i] = random_bits() % 3 == 0;
    a.put();
    for (int round = 0; round < 100; round += 2) {
        step<<<dim3(SIDE / TILE, SIDE / TILE), dim3(TILE, TILE)>>>(a.device, b.device);
        step<<<dim3(SIDE / TILE, SIDE / TILE), dim3(TILE, TILE)>>>(b.device, a.device);
    }
    a.get();
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < SIDE * SIDE; i++) {
            int x = i % SIDE, y = i / SIDE, count = 0;
            for (int dy = -1; dy <= 1; dy++)
                for (int dx = -1; dx <= 1; dx++)
                    count += (dx || dy) && want[(y + dy + SIDE) % SIDE * SIDE + (x + dx + SIDE) % SIDE];
            next[i] = count == 3 || (want[i] && count == 2);
        }
        memcpy(want.host, next.host, SIDE * SIDE);
    }
    int alive = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        equal<int>("cell", i, a[i], want[i]);
        alive += want[i];
    }
    HOLDS(alive > 50);
    return finish(__FILE__);
}
