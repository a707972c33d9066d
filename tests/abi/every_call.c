/*
 * Calls every function that is named on the standard input, out of one library, with nothing but zeros: null
 * pointers, null handles, sizes and numbers of 0. Prints a line for each, its name and what it returned (as an int),
 * or `crash` or `absent`.
 *
 * cc every_call.c -ldl && ./a.out libcuda.so.1 < NAMES
 *
 * In the C ABI of x86-64 and of Arm the caller places and removes arguments, and whole numbers and floating-point
 * numbers are placed apart: a function takes those that it has and never sees the others.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long w;
typedef int (*any)(w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w, w,
                   double, double, double, double, double, double, double, double);

static sigjmp_buf after;

static void crashed(int signal)
{
    siglongjmp(after, signal);
}

static void *library;

static int call(const char *name, w a, w b)
{
    any function = (any)dlsym(library, name);

    return function(a, b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                    0, 0, 0, 0, 0, 0, 0, 0);
}

/* A call may have ended what the last one began: each finds the same state. */
static void prepare(void)
{
    void *context = NULL, *graph = NULL;

    if (dlsym(library, "cuInit")) {
        call("cuStreamEndCapture_ptsz", 0, (w)&graph);
        if (call("cuInit", 0, 0) || call("cuDevicePrimaryCtxRetain", (w)&context, 0)
            || call("cuCtxSetCurrent", (w)context, 0)) {
            fprintf(stderr, "the driver cannot be initialised\n");
            exit(2);
        }
    } else if (dlsym(library, "cudaGetLastError")) {
        call("cudaStreamEndCapture_ptsz", 0, (w)&graph);
        call("cudaFree", 0, 0);
        call("cudaGetLastError", 0, 0);
    } else if (dlsym(library, "nvmlInit_v2")) {
        call("nvmlInit_v2", 0, 0);
    }
}

int main(int argc, char **argv)
{
    char name[256];
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    size_t i;

    if (argc != 2) {
        fprintf(stderr, "usage: %s LIBRARY < NAMES\n", argv[0]);
        return 2;
    }
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 2;
    }
    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], crashed);
    while (fgets(name, sizeof name, stdin)) {
        name[strcspn(name, "\n")] = 0;
        if (!dlsym(library, name)) {
            printf("%s absent\n", name);
            continue;
        }
        prepare();
        /* Said first: a call that never returns is known by it. */
        printf("%s", name);
        fflush(stdout);
        if (sigsetjmp(after, 1))
            printf(" crash\n");
        else
            printf(" %d\n", call(name, 0, 0));
        fflush(stdout);
    }
    return 0;
}
