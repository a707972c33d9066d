/*
 * A driver-API program in C, against NVIDIA's own cuda.h: adds two vectors.
 *
 * cc driver_api.c -lcuda && ./a.out PTX-DIRECTORY/vector_add.ptx
 */
#include <stdio.h>
#include <stdlib.h>

#include <cuda.h>

static void check(CUresult result, const char *call)
{
    if (result != CUDA_SUCCESS) {
        const char *name = NULL;
        cuGetErrorName(result, &name);
        fprintf(stderr, "%s: %s (%d)\n", call, name ? name : "unknown", result);
        exit(1);
    }
}
#define CHECK(call) check(call, #call)

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text;
    long length;

    if (!file || fseek(file, 0, SEEK_END) || (length = ftell(file)) < 0) {
        perror(path);
        exit(2);
    }
    rewind(file);
    text = malloc(length + 1);
    if (!text || fread(text, 1, length, file) != (size_t)length) {
        perror(path);
        exit(2);
    }
    text[length] = 0;
    fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    enum { N = 100000 };
    static float a[N], b[N], c[N];
    CUdeviceptr da, db, dc;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction kernel;
    char name[256];
    char *ptx;
    int version, count, i, n = N;

    if (argc != 2) {
        fprintf(stderr, "usage: %s vector_add.ptx\n", argv[0]);
        return 2;
    }
    ptx = read_text(argv[1]);
    CHECK(cuInit(0));
    CHECK(cuDriverGetVersion(&version));
    CHECK(cuDeviceGetCount(&count));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDeviceGetName(name, sizeof(name), device));
    printf("driver %d.%d, %d device(s), %s\n", version / 1000, version % 1000 / 10, count, name);
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, ptx));
    CHECK(cuModuleGetFunction(&kernel, module, "vector_add"));
    for (i = 0; i < N; i++) {
        a[i] = i * 0.5f;
        b[i] = 1.0f / (i + 1);
    }
    CHECK(cuMemAlloc(&da, sizeof(a)));
    CHECK(cuMemAlloc(&db, sizeof(b)));
    CHECK(cuMemAlloc(&dc, sizeof(c)));
    CHECK(cuMemcpyHtoD(da, a, sizeof(a)));
    CHECK(cuMemcpyHtoD(db, b, sizeof(b)));
    void *parameters[] = { &da, &db, &dc, &n };
    CHECK(cuLaunchKernel(kernel, (N + 255) / 256, 1, 1, 256, 1, 1, 0, NULL, parameters, NULL));
    CHECK(cuCtxSynchronize());
    CHECK(cuMemcpyDtoH(c, dc, sizeof(c)));
    for (i = 0; i < N; i++) {
        if (c[i] != a[i] + b[i]) {
            printf("FAIL: element %d is %.9g, on the CPU %.9g\n", i, c[i], a[i] + b[i]);
            return 1;
        }
    }
    CHECK(cuMemFree(da));
    CHECK(cuMemFree(db));
    CHECK(cuMemFree(dc));
    CHECK(cuModuleUnload(module));
    CHECK(cuDevicePrimaryCtxRelease(device));
    free(ptx);
    printf("PASS driver_api n=%d\n", N);
    return 0;
}
