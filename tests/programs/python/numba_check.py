"""Kernels that Numba compiles, checked against NumPy. One line for each: PASS, FAIL or SKIP."""
import math
import sys

import numba
import numpy as np
from numba import cuda

N = 1000
X = np.arange(N, dtype=np.float32)
GRID, BLOCK = (N + 127) // 128, 128
failures = 0


def check(name):
    """Runs a function that gives whether all was right."""

    def run(function):
        global failures
        try:
            good, why = function(), "wrong values"
        except Exception as error:  # whatever it is, the other checks run
            if "NOT_SUPPORTED" in str(error):
                print(f"SKIP {name}: {error}", flush=True)
                return
            good, why = False, f"{type(error).__name__}: {error}".replace("\n", " ")
        print(f"PASS {name}" if good else f"FAIL {name}: {why}", flush=True)
        failures += not good

    return run


@cuda.jit
def add(a, b, c):
    i = cuda.grid(1)
    if i < c.size:
        c[i] = a[i] + b[i]


@cuda.jit
def block_sum(a, out):
    shared = cuda.shared.array(128, numba.float32)
    t, i = cuda.threadIdx.x, cuda.grid(1)
    shared[t] = a[i] if i < a.size else 0
    cuda.syncthreads()
    step = 64
    while step > 0:
        if t < step:
            shared[t] += shared[t + step]
        cuda.syncthreads()
        step //= 2
    if t == 0:
        cuda.atomic.add(out, 0, shared[0])


@cuda.jit
def functions(a, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = math.sin(a[i]) + math.exp(-a[i] * 0.01) + math.sqrt(a[i])


@cuda.jit
def neighbours(out):
    out[cuda.grid(1)] = cuda.shfl_xor_sync(0xFFFFFFFF, cuda.laneid, 1)


@cuda.jit
def beyond(a):
    a[1 << 28] = 1


@check("a kernel on NumPy's arrays")
def _():
    out = np.zeros(N, np.float32)
    add[GRID, BLOCK](X, X, out)
    return (out == 2 * X).all()


@check("arrays of the device and a stream")
def _():
    stream = cuda.stream()
    on_device = cuda.to_device(X, stream=stream)
    out = cuda.device_array_like(on_device, stream=stream)
    add[GRID, BLOCK, stream](on_device, on_device, out)
    result = out.copy_to_host(stream=stream)
    stream.synchronize()
    return (result == 2 * X).all()


@check("shared memory, barriers, atomics")
def _():
    out = np.zeros(1, np.float32)
    block_sum[GRID, BLOCK](X, out)
    return out[0] == X.sum()


@check("functions of libdevice")
def _():
    out = np.zeros(N, np.float32)
    functions[GRID, BLOCK](X, out)
    return np.allclose(out, np.sin(X) + np.exp(-X * 0.01) + np.sqrt(X), atol=1e-4)


@check("a universal function")
def _():
    @numba.vectorize(["float32(float32, float32)"], target="cuda")
    def multiply(a, b):
        return a * b

    return (multiply(X, X) == X * X).all()


@check("a reduction")
def _():
    total = cuda.reduce(lambda a, b: a + b)
    return total(X.astype(np.float64)) == X.sum(dtype=np.float64)


@check("shuffles")
def _():
    out = np.zeros(32, np.int32)
    neighbours[1, 32](out)
    return (out == (np.arange(32) ^ 1)).all()


@check("pinned memory")
def _():
    pinned = cuda.pinned_array(N, np.float32)
    pinned[:] = X
    return (cuda.to_device(pinned).copy_to_host() == X).all()


@check("managed memory")
def _():
    managed = cuda.managed_array(N, np.float32)
    managed[:] = X
    add[GRID, BLOCK](managed, managed, managed)
    cuda.synchronize()
    return (managed == 2 * X).all()


@check("an error of a kernel")
def _():
    try:
        beyond[1, 1](cuda.to_device(X))
        cuda.synchronize()
    except Exception as error:
        return "ILLEGAL_ADDRESS" in str(error)
    return False


sys.exit(failures != 0)
