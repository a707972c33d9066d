// Threads of one warp leave the loop at different times: steps of the Collatz sequence.
extern "C" __global__ void collatz(const unsigned *in, unsigned *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    unsigned long long value = in[i];
    unsigned steps = 0;
    while (value != 1) {
        if (value % 2) {
            value = 3 * value + 1;
        } else {
            value /= 2;
        }
        steps++;
        if (steps >= 1000) {
            break;
        }
    }
    out[i] = steps;
}

// Nested branches, a switch, continue and an early return.
extern "C" __global__ void branches(const int *in, int *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) {
        return;
    }
    int v = in[i], sum = 0;
    for (int j = 0; j < 20; j++) {
        if ((v + j) % 3 == 0) {
            continue;
        }
        switch ((v + j) & 7) {
        case 0: sum += 1; break;
        case 1: sum += v; break;
        case 2: sum -= j; // falls through
        case 3: sum ^= 0x55; break;
        case 4:
            if (v < 0) {
                sum += 1000;
            } else if (j > 10) {
                sum -= 7;
            }
            break;
        case 5: out[i] = sum; if (v == 12) { return; } break;
        default: sum *= 3; break;
        }
        if (sum > 100000 || sum < -100000) {
            break;
        }
    }
    out[i] = sum;
}
