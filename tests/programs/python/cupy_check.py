"""Arrays of CuPy, checked against NumPy. One line for each: PASS, FAIL or SKIP."""
import sys

import cupy as cp
import numpy as np

failures = 0
RANDOM = np.random.default_rng(7)


def check(name):
    """Runs a function that gives whether all was right."""

    def run(function):
        global failures
        try:
            good, why = function(), "wrong values"
        except Exception as error:  # whatever it is, the other checks run
            good, why = False, f"{type(error).__name__}: {error}".replace("\n", " ")
        print(f"PASS {name}" if good else f"FAIL {name}: {why}", flush=True)
        failures += not good

    return run


def same(a, b, tolerance=1e-5):
    """An array of the device against one of NumPy: type, shape, values."""
    return a.dtype == b.dtype and np.allclose(cp.asnumpy(a), b, rtol=tolerance, atol=tolerance)


@check("device")
def _():
    major, minor = divmod(int(cp.cuda.Device(0).compute_capability), 10)
    return cp.cuda.runtime.getDeviceCount() == 1 and major >= 7 and minor >= 0


@check("to the device and back")
def _():
    a = RANDOM.standard_normal((33, 17)).astype(np.float32)
    return same(cp.asarray(a), a, 0) and same(cp.asarray(a)[::2, 3:].copy(), a[::2, 3:], 0)


@check("elementwise kernels")
def _():
    a, b = RANDOM.random(1000).astype(np.float32), RANDOM.random(1000).astype(np.float32)
    x, y = cp.asarray(a), cp.asarray(b)
    return same(x * y + 2 * x - y / (x + 1), a * b + 2 * a - b / (a + 1)) and same(cp.sqrt(x) + cp.exp(-y), np.sqrt(a) + np.exp(-b))


@check("integers and types")
def _():
    a = np.arange(-500, 500, dtype=np.int64)
    x = cp.asarray(a)
    return same(x // 7 + (x % 5) * (x << 2), a // 7 + (a % 5) * (a << 2), 0) and same(x.astype(np.float64) / 3, a / 3)


@check("broadcasting")
def _():
    a, b = np.arange(12, dtype=np.float32).reshape(12, 1), np.arange(20, dtype=np.float32)
    return same(cp.asarray(a) * cp.asarray(b), a * b, 0)


@check("reductions")
def _():
    a = RANDOM.random((50, 70))
    x = cp.asarray(a)
    sums = same(x.sum(axis=0), a.sum(axis=0)) and same(x.mean(axis=1), a.mean(axis=1))
    return sums and float(x.max()) == a.max() and int(x.argmin()) == a.argmin()


@check("sort and prefix sum")
def _():
    a = RANDOM.integers(0, 1000, 3000).astype(np.int32)
    x = cp.asarray(a)
    return same(cp.sort(x), np.sort(a), 0) and same(cp.cumsum(x), np.cumsum(a), 0)


@check("choice")
def _():
    a = RANDOM.standard_normal(500)
    x = cp.asarray(a)
    return same(cp.where(x > 0, x, -x), np.abs(a)) and same(x[x > 1], a[a > 1], 0)


@check("product of matrices")
def _():
    a, b = RANDOM.random((40, 30)).astype(np.float32), RANDOM.random((30, 20)).astype(np.float32)
    return same(cp.asarray(a) @ cp.asarray(b), a @ b, 1e-4)


@check("RawKernel")
def _():
    source = 'extern "C" __global__ void scale(float *x, float by, int n)\n' \
        "{ int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] *= by; }"
    x = cp.arange(1000, dtype=cp.float32)
    cp.RawKernel(source, "scale")((8,), (128,), (x, cp.float32(3), 1000))
    return same(x, np.arange(1000, dtype=np.float32) * 3)


@check("ElementwiseKernel and ReductionKernel")
def _():
    x = cp.arange(100, dtype=cp.float32)
    squares = cp.ElementwiseKernel("T x", "T y", "y = x * x", "squares")(x)
    norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")(x)
    a = np.arange(100, dtype=np.float32)
    return same(squares, a * a) and abs(float(norm) - np.linalg.norm(a)) < 1e-2


@check("streams and events")
def _():
    stream, begin, end = cp.cuda.Stream(non_blocking=True), cp.cuda.Event(), cp.cuda.Event()
    with stream:
        begin.record()
        x = cp.ones(1000, dtype=cp.float32) * 5
        end.record()
    stream.synchronize()
    return cp.cuda.get_elapsed_time(begin, end) >= 0 and float(x.sum()) == 5000


sys.exit(failures != 0)
