/* Locks for which lanes of one warp, warps and blocks wait: each holder goes on while the others spin. */
#include "check.h"

struct Lock {
    int held;
};

__device__ void take(Lock *lock)
{
    while (atomicCAS(&lock->held, 0, 1) != 0)
        ;
    __threadfence();
}

__device__ void give(Lock *lock)
{
    __threadfence();
    atomicExch(&lock->held, 0);
}

__global__ void count(Lock *lock, volatile int *counter)
{
    take(lock);
    *counter = *counter + 1;
    give(lock);
}

/* With a ticket: strictly in order of arrival. */
__global__ void tickets(unsigned *next, volatile unsigned *serving, volatile int *log)
{
    unsigned mine = atomicAdd(next, 1);
    while (*serving != mine)
        ;
    __threadfence();
    log[mine] = blockIdx.x * blockDim.x + threadIdx.x;
    __threadfence();
    *serving = mine + 1;
}

/* A sorted list into which every thread puts its number, one lock for the whole. */
struct Node {
    int value;
    int next;
};

__global__ void insert(Lock *lock, volatile Node *nodes)
{
    int me = threadIdx.x + 1, value = (threadIdx.x * 37) % 64;
    bool done = false;
    while (!done) {
        if (atomicCAS(&lock->held, 0, 1) == 0) {
            __threadfence();
            int at = 0;
            while (nodes[at].next && nodes[nodes[at].next].value < value)
                at = nodes[at].next;
            nodes[me].value = value;
            nodes[me].next = nodes[at].next;
            nodes[at].next = me;
            __threadfence();
            atomicExch(&lock->held, 0);
            done = true;
        }
    }
}

int main()
{
    Array<Lock> lock(1);
    Array<int> counter(1), log(128);
    Array<unsigned> turns(2);
    Array<Node> nodes(65);
    lock.put();
    counter.put();
    count<<<3, 96>>>(lock.device, counter.device);
    counter.get();
    equal("counter", 0, counter[0], 3 * 96);
    turns.put();
    tickets<<<2, 64>>>(turns.device, turns.device + 1, log.device);
    log.get();
    int seen[128] = {};
    for (int i = 0; i < 128; i++)
        equal("each once", i, seen[log[i] & 127]++, 0);
    nodes.put();
    insert<<<1, 64>>>(lock.device, nodes.device);
    nodes.get();
    int at = nodes[0].next;
    for (int i = 0; i < 64; i++, at = nodes[at].next)
        equal("list", i, nodes[at].value, i);
    equal("its end", 0, at, 0);
    return finish(__FILE__);
}
