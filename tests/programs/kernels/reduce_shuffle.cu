// Sums and maxima with warp shuffles: down inside the warp, then the first warp over the warps' results.
__device__ unsigned warp_sum(unsigned value)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        value += __shfl_down_sync(0xffffffffu, value, offset);
    }
    return value;
}

extern "C" __global__ void reduce_shuffle(const unsigned *in, unsigned *out, int n)
{
    __shared__ unsigned warps[32];
    unsigned sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        sum += in[i];
    }
    sum = warp_sum(sum);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) {
        warps[warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
        sum = warp_sum(lane < (int)(blockDim.x / 32) ? warps[lane] : 0);
        if (lane == 0) {
            atomicAdd(out, sum);
        }
    }
}

// Every kind of shuffle and vote, one result per lane.
extern "C" __global__ void warp_primitives(const unsigned *in, unsigned *out)
{
    const unsigned all = 0xffffffffu;
    unsigned value = in[threadIdx.x];
    unsigned lane = threadIdx.x % 32;
    unsigned *mine = out + threadIdx.x * 8;
    mine[0] = __shfl_sync(all, value, (lane * 7 + 3) % 32);
    mine[1] = __shfl_up_sync(all, value, 3);
    mine[2] = __shfl_xor_sync(all, value, 5);
    mine[3] = __shfl_down_sync(all, value, 1, 8);
    mine[4] = __ballot_sync(all, value & 1);
    mine[5] = __any_sync(all, value == 77);
    mine[6] = __all_sync(all, value < 1000);
    mine[7] = __popc(__ballot_sync(all, value % 3 == 0) & ((1u << lane) - 1));
}
