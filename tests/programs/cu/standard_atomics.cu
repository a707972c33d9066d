/* C++'s atomics with scopes and orders: messages between blocks, and a lock. */
#include <cuda/atomic>

#include "check.h"

struct Mail {
    int payload;
    int flag;
};

/* A chain: each block waits for its predecessor's message, adds to it and sends it on. Blocks with a lower number
   have started before. */
__global__ void chain(Mail *mail)
{
    if (threadIdx.x)
        return;
    int me = blockIdx.x, value = 0;
    if (me > 0) {
        cuda::atomic_ref<int, cuda::thread_scope_device> flag(mail[me - 1].flag);
        while (flag.load(cuda::memory_order_acquire) == 0)
            ;
        value = mail[me - 1].payload;
    }
    mail[me].payload = value + me;
    cuda::atomic_ref<int, cuda::thread_scope_device>(mail[me].flag).store(1, cuda::memory_order_release);
}

__global__ void count(cuda::atomic<long long, cuda::thread_scope_device> *total, double *sum, int *lock, int *guarded)
{
    total->fetch_add(threadIdx.x, cuda::memory_order_relaxed);
    cuda::atomic_ref<double, cuda::thread_scope_device>(*sum).fetch_add(0.5);
    cuda::atomic_ref<int, cuda::thread_scope_system> door(*lock);
    bool done = false;
    while (!done) {
        int open = 0;
        if (door.compare_exchange_weak(open, 1, cuda::memory_order_acquire, cuda::memory_order_relaxed)) {
            *(volatile int *)guarded += 1;
            door.store(0, cuda::memory_order_release);
            done = true;
        }
    }
}

__global__ void in_block(int *out)
{
    __shared__ cuda::atomic<unsigned, cuda::thread_scope_block> turn;
    __shared__ int order[64];
    if (threadIdx.x == 0)
        turn = 0;
    __syncthreads();
    unsigned mine = turn.fetch_add(1);
    order[mine] = threadIdx.x;
    __syncthreads();
    atomicAdd(&out[0], order[threadIdx.x]);
    if (threadIdx.x == 0)
        out[1] = turn.load();
}

int main()
{
    const int blocks = 40;
    Array<Mail> mail(blocks);
    mail.put();
    chain<<<blocks, 32>>>(mail.device);
    mail.get();
    for (int i = 0; i < blocks; i++)
        equal("chain", i, mail[i].payload, i * (i + 1) / 2);
    Array<long long> total(1);
    Array<double> sum(1);
    Array<int> ints(2), out(2);
    total.put();
    sum.put();
    ints.put();
    out.put();
    count<<<8, 64>>>((cuda::atomic<long long, cuda::thread_scope_device> *)total.device, sum.device, ints.device,
                     ints.device + 1);
    total.get();
    sum.get();
    ints.get();
    equal("total", 0, total[0], 8 * 63 * 32LL);
    equal("sum", 0, sum[0], 8 * 64 * 0.5);
    equal("lock", 0, ints[0], 0);
    equal("guarded", 0, ints[1], 8 * 64);
    in_block<<<1, 64>>>(out.device);
    out.get();
    equal("order", 0, out[0], 63 * 32);
    equal("turns", 0, out[1], 64);
    return finish(__FILE__);
}
