/*
 * The runtime as a C program of one CUDA version sees it: compiled against that version's headers and linked
 * with our library of its major version.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_runtime_api.h>

void launch_sum(const int *values, int n, cudaStream_t stream);
const void *sum_function(void);
const void *total_symbol(void);

static int failures;

static void report(const char *what, int good)
{
    printf("%s %s\n", good ? "PASS" : "FAIL", what);
    failures += !good;
}
#define HOLDS(condition) report(#condition, condition)

static void need(cudaError_t error, const char *call)
{
    if (error != cudaSuccess) {
        printf("FAIL %s: %s\n", call, cudaGetErrorName(error));
        exit(1);
    }
}
#define NEED(call) need(call, #call)

/* A structure with marks behind it: nothing may be written beyond its end. */
#define GUARDED(type, name)                                                                    \
    struct {                                                                                   \
        type value;                                                                            \
        unsigned char guard[64];                                                               \
    } name;                                                                                    \
    memset(&name, 0xa5, sizeof(name))

static int intact(const unsigned char *guard)
{
    for (int i = 0; i < 64; i++)
        if (guard[i] != 0xa5)
            return 0;
    return 1;
}

static void structures(void)
{
    int sms, version;
    GUARDED(struct cudaDeviceProp, prop);
    GUARDED(struct cudaFuncAttributes, function);
    GUARDED(struct cudaPointerAttributes, pointer);

    NEED(cudaRuntimeGetVersion(&version));
    HOLDS(version / 1000 == CUDART_VERSION / 1000 && version >= CUDART_VERSION);
    NEED(cudaGetDeviceProperties(&prop.value, 0));
    HOLDS(intact(prop.guard));
    NEED(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
    HOLDS(prop.value.multiProcessorCount == sms);
    HOLDS(prop.value.major >= 5 && prop.value.warpSize == 32);
    HOLDS(prop.value.maxThreadsPerBlock == 1024 && prop.value.maxGridSize[1] == 65535);
    HOLDS(memchr(prop.value.name, 0, sizeof(prop.value.name)) != NULL);
    NEED(cudaFuncGetAttributes(&function.value, sum_function()));
    HOLDS(intact(function.guard));
    HOLDS(function.value.maxThreadsPerBlock == 1024 && function.value.ptxVersion >= 50);
    NEED(cudaPointerGetAttributes(&pointer.value, &version));
    HOLDS(intact(pointer.guard));
    HOLDS(pointer.value.type == cudaMemoryTypeUnregistered);
}

static void kernels(void)
{
    enum { N = 1000 };
    int host[N], total = 0, *values;
    cudaStream_t stream;
    size_t size;

    for (int i = 0; i < N; i++)
        host[i] = i;
    NEED(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    NEED(cudaMalloc((void **)&values, sizeof(host)));
    NEED(cudaMemcpyAsync(values, host, sizeof(host), cudaMemcpyHostToDevice, stream));
    launch_sum(values, N, stream);
    NEED(cudaGetLastError());
    NEED(cudaStreamSynchronize(stream));
    NEED(cudaGetSymbolSize(&size, total_symbol()));
    HOLDS(size == sizeof(int));
    NEED(cudaMemcpyFromSymbol(&total, total_symbol(), sizeof(int), 0, cudaMemcpyDeviceToHost));
    HOLDS(total == N * (N - 1) / 2);
    NEED(cudaStreamDestroy(stream));
    NEED(cudaFree(values));
}

/* Names whose ABI differs between versions. */
static void changed(void)
{
    void *function = NULL;
    int capturing = -1;
    unsigned long long id;
#if CUDART_VERSION >= 13000
    enum cudaDriverEntryPointQueryResult status;
    enum cudaStreamCaptureStatus capture;
    NEED(cudaGetDriverEntryPointByVersion("cuMemAlloc", &function, 12000, cudaEnableDefault, &status));
    HOLDS(function && status == cudaDriverEntryPointSuccess);
    NEED(cudaGetDriverEntryPointByVersion("cuNoSuchThing", &function, 12000, 0, &status));
    HOLDS(!function && status == cudaDriverEntryPointSymbolNotFound);
    NEED(cudaStreamGetCaptureInfo(cudaStreamPerThread, &capture, &id, NULL, NULL, NULL, NULL));
    capturing = capture;
#elif CUDART_VERSION >= 12000
    enum cudaDriverEntryPointQueryResult status;
    enum cudaStreamCaptureStatus capture;
    NEED(cudaGetDriverEntryPoint("cuMemAlloc", &function, cudaEnableDefault, &status));
    HOLDS(function && status == cudaDriverEntryPointSuccess);
    NEED(cudaGetDriverEntryPoint("cuNoSuchThing", &function, cudaEnableDefault, &status));
    HOLDS(!function && status == cudaDriverEntryPointSymbolNotFound);
    NEED(cudaStreamGetCaptureInfo_v3(cudaStreamPerThread, &capture, &id, NULL, NULL, NULL, NULL));
    capturing = capture;
#else
    enum cudaStreamCaptureStatus capture;
    NEED(cudaGetDriverEntryPoint("cuMemAlloc", &function, cudaEnableDefault));
    HOLDS(function != NULL);
    HOLDS(cudaGetDriverEntryPoint("cuNoSuchThing", &function, cudaEnableDefault) ==
          cudaErrorSymbolNotFound);
    HOLDS(!function);
    NEED(cudaStreamGetCaptureInfo(cudaStreamPerThread, &capture, &id));
    capturing = capture;
#endif
    HOLDS(capturing == cudaStreamCaptureStatusNone);
}

/* After the end of main the runtime answers with an error of its own. */
static void after_main(void)
{
    void *at;
    HOLDS(cudaMalloc(&at, 4) == cudaErrorCudartUnloading);
    HOLDS(!strcmp(cudaGetErrorName(cudaErrorCudartUnloading), "cudaErrorCudartUnloading"));
    if (failures)
        _Exit(1);
}

int main(void)
{
    /* Registered before the runtime's own handler, so that it runs after that. */
    atexit(after_main);
    structures();
    kernels();
    changed();
    return failures != 0;
}
