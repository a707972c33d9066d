/* A search through a graph of nodes, one launch for each level, until no thread found more. */
#include "check.h"

__global__ void level(const int *starts, const int *edges, int *distance, int *more, int n, int depth)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || distance[i] != depth)
        return;
    for (int e = starts[i]; e < starts[i + 1]; e++)
        if (atomicCAS(&distance[edges[e]], -1, depth + 1) == -1)
            *more = 1;
}

int main()
{
    const int n = 2000;
    Array<int> starts(n + 1), edges(n * 8), distance(n), more(1);
    int count = 0;
    for (int i = 0; i < n; i++) {
        starts[i] = count;
        for (uint32_t k = random_bits() % 4; k > 0; k--)
            edges[count++] = (int)(random_bits() % n);
        if (i + 1 < n && i % 3 == 0)
            edges[count++] = i + 1;
    }
    starts[n] = count;
    for (int i = 0; i < n; i++)
        distance[i] = i == 0 ? 0 : -1;
    starts.put(), edges.put(), distance.put();
    Array<int> want(n), queue(n);
    memcpy(want.host, distance.host, n * sizeof(int));
    int head = 0, tail = 1;
    while (head < tail) {
        int at = queue[head++];
        for (int e = starts[at]; e < starts[at + 1]; e++)
            if (want[edges[e]] < 0) {
                want[edges[e]] = want[at] + 1;
                queue[tail++] = edges[e];
            }
    }
    int depth = 0;
    do {
        more[0] = 0;
        more.put();
        level<<<(n + 127) / 128, 128>>>(starts.device, edges.device, distance.device, more.device, n, depth++);
        more.get();
    } while (more[0]);
    distance.get();
    HOLDS(depth > 4 && tail > 100);
    for (int i = 0; i < n; i++)
        equal("distance", i, distance[i], want[i]);
    return finish(__FILE__);
}
