/* Rectangles: between all places, parts of larger ones, in the order of a stream, and sizes that are wrong. */
#include <vector>

#include "check.h"

static unsigned char pattern(size_t x, size_t y, int seed) { return (unsigned char)(x * 7 + y * 13 + seed); }

struct Host {
    size_t pitch, rows;
    std::vector<unsigned char> bytes;
    Host(size_t pitch, size_t rows, int seed) : pitch(pitch), rows(rows), bytes(pitch * rows)
    {
        for (size_t y = 0; y < rows; y++)
            for (size_t x = 0; x < pitch; x++)
                bytes[y * pitch + x] = pattern(x, y, seed);
    }
    unsigned char *at(size_t x, size_t y) { return &bytes[y * pitch + x]; }
};

/* A part of a rectangle goes to the device, within it, and back to another place. */
static void part(size_t width, size_t height, size_t from_pitch, size_t to_pitch, bool async)
{
    Host in(from_pitch, height + 3, 1), out(to_pitch, height + 2, 99);
    unsigned char *a, *b;
    size_t a_pitch, b_pitch;
    cudaStream_t stream;
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    NEED(cudaMallocPitch(&a, &a_pitch, width + 5, height + 4));
    NEED(cudaMallocPitch(&b, &b_pitch, width + 700, height + 4));
    if (async) {
        NEED(cudaMemset2DAsync(a, a_pitch, 0, width + 5, height + 4, stream));
        NEED(cudaMemcpy2DAsync(a + 2 * a_pitch + 3, a_pitch, in.at(1, 1), in.pitch, width, height, cudaMemcpyHostToDevice, stream));
        NEED(cudaMemcpy2DAsync(b + b_pitch + 600, b_pitch, a + 2 * a_pitch + 3, a_pitch, width, height, cudaMemcpyDeviceToDevice, stream));
        NEED(cudaMemcpy2DAsync(out.at(2, 1), out.pitch, b + b_pitch + 600, b_pitch, width, height, cudaMemcpyDefault, stream));
        NEED(cudaStreamSynchronize(stream));
    } else {
        NEED(cudaMemset2D(a, a_pitch, 0, width + 5, height + 4));
        NEED(cudaMemcpy2D(a + 2 * a_pitch + 3, a_pitch, in.at(1, 1), in.pitch, width, height, cudaMemcpyDefault));
        NEED(cudaMemcpy2D(b + b_pitch + 600, b_pitch, a + 2 * a_pitch + 3, a_pitch, width, height, cudaMemcpyDefault));
        NEED(cudaMemcpy2D(out.at(2, 1), out.pitch, b + b_pitch + 600, b_pitch, width, height, cudaMemcpyDeviceToHost));
    }
    bool good = true;
    for (size_t y = 0; y < out.rows; y++)
        for (size_t x = 0; x < out.pitch; x++) {
            bool inside = x >= 2 && x < 2 + width && y >= 1 && y < 1 + height;
            unsigned char want = inside ? pattern(x - 1, y, 1) : pattern(x, y, 99);
            good = good && *out.at(x, y) == want;
        }
    /* What lies around it on the device is as it was. */
    std::vector<unsigned char> all(a_pitch * (height + 4));
    NEED(cudaMemcpy(all.data(), a, all.size(), cudaMemcpyDeviceToHost));
    for (size_t x = 0; x < width + 5; x++)
        good = good && all[a_pitch + x] == 0 && all[(height + 2) * a_pitch + x] == 0;
    for (size_t y = 2; y < height + 2; y++)
        good = good && all[y * a_pitch + 2] == 0 && all[y * a_pitch + 3 + width] == 0;
    std::string name = std::string(async ? "async " : "") + "part " + std::to_string(width) + " x " + std::to_string(height);
    report(name.c_str(), good, "wrong bytes");
    NEED(cudaFree(a));
    NEED(cudaFree(b));
    NEED(cudaStreamDestroy(stream));
}

static void errors()
{
    unsigned char *a;
    size_t pitch;
    std::vector<unsigned char> host(10000);
    NEED(cudaMallocPitch(&a, &pitch, 100, 10));
    GIVES(cudaMemcpy2D(a, 50, host.data(), 100, 100, 2, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
    GIVES(cudaMemcpy2D(a, pitch, host.data(), 50, 100, 2, cudaMemcpyHostToDevice), cudaErrorInvalidPitchValue);
    GIVES(cudaMemcpy2D(a, pitch, host.data(), 100, 100, 2, (cudaMemcpyKind)42), cudaErrorInvalidMemcpyDirection);
    GIVES(cudaMemcpy2D(a, pitch, host.data(), 100, 0, 10, cudaMemcpyHostToDevice), cudaSuccess);
    GIVES(cudaMemcpy2D(a, pitch, host.data(), 100, 10, 0, cudaMemcpyHostToDevice), cudaSuccess);
    GIVES(cudaMemcpy(a, host.data(), pitch * 10 + 4096, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    GIVES(cudaMemset(nullptr, 0, 4), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(nullptr, host.data(), 4, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    GIVES(cudaMemcpy(nullptr, nullptr, 0, cudaMemcpyHostToDevice), cudaSuccess);
    cudaGetLastError();
    NEED(cudaFree(a));
}

/* A long copy, of no round size, and the small ones that a program sends one after the other. */
static void lengths()
{
    const size_t n = (9 << 20) + 12345;
    std::vector<unsigned char> in(n), out(n);
    for (size_t i = 0; i < n; i++)
        in[i] = (unsigned char)(i * 31 + (i >> 12));
    unsigned char *a, *b;
    NEED(cudaMalloc(&a, n));
    NEED(cudaMalloc(&b, n));
    NEED(cudaMemcpy(a, in.data(), n, cudaMemcpyHostToDevice));
    NEED(cudaMemcpy(b + 1, a, n - 1, cudaMemcpyDeviceToDevice));
    NEED(cudaMemcpy(out.data(), b + 1, n - 1, cudaMemcpyDeviceToHost));
    out[n - 1] = in[n - 1];
    report("a long copy", in == out, "wrong bytes");
    for (size_t at = 0; at < 3000; at += at % 17 + 1)
        NEED(cudaMemcpyAsync(b + at, in.data() + 2 * at, at % 17 + 1, cudaMemcpyHostToDevice, 0));
    NEED(cudaMemcpy(out.data(), b, 3000, cudaMemcpyDeviceToHost));
    bool good = true;
    for (size_t at = 0; at < 3000; at += at % 17 + 1)
        for (size_t k = 0; k < at % 17 + 1 && at + k < 3000; k++)
            good = good && out[at + k] == in[2 * at + k];
    report("many short copies", good, "wrong bytes");
    /* The program may change its memory as soon as the call is back. */
    std::vector<unsigned char> changing(4096, 0);
    for (int i = 0; i < 64; i++) {
        for (auto &byte : changing)
            byte = (unsigned char)i;
        NEED(cudaMemcpyAsync(a + i * 4096, changing.data(), 4096, cudaMemcpyHostToDevice, 0));
    }
    NEED(cudaMemcpy(out.data(), a, 64 * 4096, cudaMemcpyDeviceToHost));
    for (int i = 0; i < 64 * 4096; i++)
        good = good && out[i] == i / 4096;
    report("pageable memory is free after the call", good, "wrong bytes");
    NEED(cudaFree(a));
    NEED(cudaFree(b));
}

int main()
{
    for (bool async : {false, true}) {
        part(1, 1, 16, 16, async);
        part(100, 7, 103, 128, async);
        part(255, 33, 300, 257 + 2, async);
        part(1000, 200, 1024, 1500, async);
    }
    errors();
    lengths();
    return failures != 0;
}
