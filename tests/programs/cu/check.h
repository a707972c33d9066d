/* What the programs of this folder share. Each checks what the device computes against the processor, and prints
   one line: `PASS name`, `FAIL name: why` or `SKIP name: why`. */
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <cuda_runtime.h>

/* Exit status of a program that could not check anything, as test tools have it. */
enum { SKIPPED = 77 };

static int wrong;
static char first_wrong[200];

static inline void describe(const char *what, size_t i, double got, double want)
{
    if (wrong++ == 0)
        snprintf(first_wrong, sizeof(first_wrong), "%s [%zu] is %.17g instead of %.17g", what, i, got, want);
}

static inline const char *stem(const char *file)
{
    static char name[64];
    const char *slash = strrchr(file, '/');
    snprintf(name, sizeof(name), "%s", slash ? slash + 1 : file);
    if (char *dot = strchr(name, '.'))
        *dot = 0;
    return name;
}

/* A call that must succeed; the program cannot go on without it. */
#define NEED(call)                                                                                  \
    do {                                                                                            \
        cudaError_t need_error = (call);                                                            \
        if (need_error != cudaSuccess) {                                                            \
            printf("FAIL %s: line %d: %s is %s\n", stem(__FILE__), __LINE__, #call,                 \
                   cudaGetErrorName(need_error));                                                   \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

/* A call that must give this error. */
#define GIVES(call, expected)                                                                       \
    do {                                                                                            \
        cudaError_t gives_error = (call);                                                           \
        if (gives_error != (expected))                                                              \
            describe(#call, __LINE__, gives_error, expected);                                       \
    } while (0)

/* A condition that must hold. */
#define HOLDS(condition)                                                                            \
    do {                                                                                            \
        if (!(condition) && wrong++ == 0)                                                           \
            snprintf(first_wrong, sizeof(first_wrong), "line %d: %s does not hold", __LINE__,       \
                     #condition);                                                                   \
    } while (0)

/* Equal values; two NaNs are equal. */
template <class T> static inline void equal(const char *what, size_t i, T got, T want)
{
    if (!(got == want || (got != got && want != want)))
        describe(what, i, (double)got, (double)want);
}

/* Within `tolerance` of `want`, relative where that is above 1. */
static inline void near(const char *what, size_t i, double got, double want, double tolerance)
{
    if (got == want || (got != got && want != want))
        return;
    if (!(fabs(got - want) <= tolerance * fmax(1.0, fabs(want))))
        describe(what, i, got, want);
}

/* The same elements in the program's memory and on the device. */
template <class T> struct Array {
    size_t n;
    T *host, *device;

    explicit Array(size_t n) : n(n), host((T *)calloc(n, sizeof(T)))
    {
        NEED(cudaMalloc(&device, n * sizeof(T)));
        NEED(cudaMemset(device, 0xa5, n * sizeof(T)));
    }
    Array(const Array &) = delete;
    ~Array()
    {
        cudaFree(device);
        free(host);
    }
    T &operator[](size_t i) { return host[i]; }
    void put() { NEED(cudaMemcpy(device, host, n * sizeof(T), cudaMemcpyHostToDevice)); }
    void get()
    {
        NEED(cudaGetLastError());
        NEED(cudaMemcpy(host, device, n * sizeof(T), cudaMemcpyDeviceToHost));
    }
};

/* The same numbers in each run. */
static inline uint32_t random_bits()
{
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

static inline float random_unit() { return (random_bits() >> 8) * (1.0f / (1 << 24)); }

static inline int finish(const char *file)
{
    if (wrong)
        printf("FAIL %s: %d wrong, the first: %s\n", stem(file), wrong, first_wrong);
    else
        printf("PASS %s\n", stem(file));
    return wrong != 0;
}

static inline int skip(const char *file, const char *why)
{
    printf("SKIP %s: %s\n", stem(file), why);
    return SKIPPED;
}
