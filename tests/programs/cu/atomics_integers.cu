/* Atomic operations on integers: each with many threads, in global and shared memory, and in all scopes. */
#include "check.h"

enum { BLOCKS = 16, THREADS = 256, TOTAL = BLOCKS * THREADS };

template <class T> struct Slots {
    T add, least, most, both, any, odd, swap_sum, last, counter, old_sum;
};

template <class T> __device__ void all(Slots<T> *s, T i)
{
    atomicAdd(&s->add, i);
    atomicMin(&s->least, i);
    atomicMax(&s->most, i);
    atomicAnd(&s->both, ~((T)1 << (i % 8)));
    atomicOr(&s->any, (T)1 << (i % 16));
    atomicXor(&s->odd, i);
    T old = s->counter, seen;
    do {
        seen = old;
        old = atomicCAS(&s->counter, seen, seen + 1);
    } while (old != seen);
    /* Each value that is put in comes out once, but for the last. */
    T out = atomicExch(&s->last, i);
    atomicAdd(&s->swap_sum, out);
    atomicAdd(&s->old_sum, old);
}

template <class T> __global__ void global(Slots<T> *s)
{
    all<T>(s, (T)(blockIdx.x * blockDim.x + threadIdx.x));
}

template <class T> __global__ void shared(Slots<T> *s)
{
    __shared__ Slots<T> mine;
    if (threadIdx.x == 0)
        mine = s[blockIdx.x];
    __syncthreads();
    all<T>(&mine, (T)threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0)
        s[blockIdx.x] = mine;
}

__global__ void others(int *ints, unsigned *counters)
{
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicSub(&ints[0], 3);
    atomicAdd_block(&ints[1 + blockIdx.x], 1);
    atomicAdd_system(&ints[20], 2);
    atomicMax_system(&ints[21], (int)i);
    atomicInc(&counters[0], 99);
    atomicDec(&counters[1], 99);
}

template <class T> static void compare(const Slots<T> &s, int n)
{
    T x = 0;
    for (int i = 0; i < n; i++)
        x ^= (T)i;
    T sum = (T)((long long)n * (n - 1) / 2);
    equal("add", n, s.add, sum);
    equal("min", n, s.least, (T)0);
    equal("max", n, s.most, (T)(n - 1));
    equal("and", n, s.both, (T)0xff00);
    equal("or", n, s.any, (T)0xffff);
    equal("xor", n, s.odd, x);
    equal("exchange", n, (T)(s.swap_sum + s.last), sum);
    equal("compare and swap", n, s.counter, (T)n);
    equal("its old values", n, s.old_sum, sum);
}

template <class T> static void type()
{
    Array<Slots<T>> s(BLOCKS);
    for (int shared_memory = 0; shared_memory < 2; shared_memory++) {
        for (int i = 0; i < BLOCKS; i++) {
            memset(&s[i], 0, sizeof(s[i]));
            s[i].least = (T)1000000;
            s[i].both = (T)0xffff;
        }
        s.put();
        if (shared_memory)
            shared<T><<<BLOCKS, THREADS>>>(s.device);
        else
            global<T><<<BLOCKS, THREADS>>>(s.device);
        s.get();
        for (int i = 0; i < (shared_memory ? BLOCKS : 1); i++)
            compare(s[i], shared_memory ? THREADS : TOTAL);
    }
}

int main()
{
    type<int>();
    type<unsigned>();
    type<unsigned long long>();
    Array<int> ints(24);
    Array<unsigned> counters(2);
    ints.put();
    counters.put();
    others<<<BLOCKS, THREADS>>>(ints.device, counters.device);
    ints.get();
    counters.get();
    equal("sub", 0, ints[0], -3 * TOTAL);
    for (int i = 0; i < BLOCKS; i++)
        equal("of a block", i, ints[1 + i], (int)THREADS);
    equal("of the system", 20, ints[20], 2 * TOTAL);
    equal("of the system", 21, ints[21], TOTAL - 1);
    equal("inc", 0, counters[0], TOTAL % 100u);
    equal("dec", 0, counters[1], (100 - TOTAL % 100u) % 100u);
    return finish(__FILE__);
}
