/* What the runtime's test programs share: one line for each check, `PASS name` or `FAIL name: why`. */
#pragma once
#include <cstdio>
#include <cstdlib>
#include <string>

#include <cuda_runtime.h>

static int failures;

static inline void report(const char *name, bool good, const std::string &why)
{
    if (good)
        printf("PASS %s\n", name);
    else {
        printf("FAIL %s: %s\n", name, why.c_str());
        failures++;
    }
    fflush(stdout);
}

/* A call that must succeed; the program cannot go on without it. */
#define NEED(call)                                                                             \
    do {                                                                                       \
        cudaError_t need_error = (call);                                                       \
        if (need_error != cudaSuccess) {                                                       \
            printf("FAIL %s:%d: %s is %s (%s)\n", __FILE__, __LINE__, #call,                   \
                   cudaGetErrorName(need_error), cudaGetErrorString(need_error));              \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

/* A call that must give this error. */
#define GIVES(call, expected)                                                                  \
    do {                                                                                       \
        cudaError_t gives_error = (call);                                                      \
        report(#call, gives_error == (expected),                                               \
               std::string(cudaGetErrorName(gives_error)) + " instead of " #expected);         \
    } while (0)

/* A condition that must hold. */
#define HOLDS(condition) report(#condition, (condition), "does not hold")
