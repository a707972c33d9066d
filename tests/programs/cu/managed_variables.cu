/* Variables in managed memory: program and device use them by one address, and each call takes them for symbols. */
#include "check.h"
#include <cuda.h>
#include <dlfcn.h>

struct Pair {
    int first;
    double second;
};

__managed__ int counter = 5;
__device__ __managed__ double table[1000];
__managed__ Pair pair = {7, 0.5};
__managed__ int *pointer;
__device__ int on_device = 3;
static __managed__ char bytes[3] = {'a', 'b', 'c'};

template <class T> __managed__ T of_template = T(11);

__global__ void change(int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        table[i] = table[i] * 2 + i;
    if (i == 0) {
        pair.first += on_device;
        pair.second = bytes[0] + bytes[1] + bytes[2];
        bytes[1] = 'x';
        of_template<long> += 1;
        of_template<float> += 1;
    }
    atomicAdd(&counter, 1);
}

__global__ void follow(int **place) { **place = 1234; }
__global__ void addresses(size_t *out)
{
    out[0] = (size_t)&counter;
    out[1] = (size_t)table;
    out[2] = (size_t)&pair;
}

static void values()
{
    /* The first use of all is the program's. */
    equal("counter at first", 0, counter, 5);
    equal("pair at first", 0, pair.second, 0.5);
    equal("table at first", 0, table[999], 0.0);
    HOLDS(bytes[2] == 'c' && of_template<long> == 11 && of_template<float> == 11.0f);
    for (int round = 0; round < 3; round++) {
        counter = round;
        pair.first = 10;
        for (int i = 0; i < 1000; i++)
            table[i] = i + round;
        bytes[1] = 'b';
        change<<<8, 128>>>(1000);
        NEED(cudaDeviceSynchronize());
        equal("counter", round, counter, round + 8 * 128);
        equal("pair", round, pair.first, 13);
        equal("sum of bytes", round, pair.second, (double)('a' + 'b' + 'c'));
        HOLDS(bytes[1] == 'x');
        for (int i = 0; i < 1000; i++)
            equal("table", i, table[i], 3.0 * i + 2.0 * round);
    }
    HOLDS(of_template<long> == 14 && of_template<float> == 14.0f);
    pointer = &counter;
    follow<<<1, 1>>>(&pointer);
    NEED(cudaDeviceSynchronize());
    equal("through a pointer", 0, counter, 1234);
    pointer = &pair.first;
    follow<<<1, 1>>>(&pointer);
    NEED(cudaDeviceSynchronize());
    equal("through a pointer", 1, pair.first, 1234);
}

static void one_address()
{
    size_t *out;
    NEED(cudaMallocManaged(&out, 3 * sizeof(*out)));
    addresses<<<1, 1>>>(out);
    NEED(cudaDeviceSynchronize());
    HOLDS(out[0] == (size_t)&counter && out[1] == (size_t)table && out[2] == (size_t)&pair);
    NEED(cudaFree(out));
    cudaPointerAttributes attributes;
    NEED(cudaPointerGetAttributes(&attributes, &table[10]));
    HOLDS(attributes.type == cudaMemoryTypeManaged && attributes.devicePointer == &table[10]
          && attributes.hostPointer == &table[10]);
    /* It is no allocation: the module has it. */
    GIVES(cudaFree(&counter), cudaErrorInvalidValue);
    cudaGetLastError();
    NEED(cudaMemPrefetchAsync(table, sizeof(table), cudaMemLocation{cudaMemLocationTypeDevice, 0}, 0, 0));
}

static void as_symbols()
{
    void *at;
    size_t size;
    NEED(cudaGetSymbolAddress(&at, table));
    HOLDS(at == table);
    NEED(cudaGetSymbolSize(&size, table));
    equal("size", 0, size, sizeof(table));
    NEED(cudaGetSymbolSize(&size, counter));
    equal("size", 1, size, sizeof(int));
    double three[3] = {1.5, 2.5, 3.5}, back[3] = {};
    NEED(cudaMemcpyToSymbol(table, three, sizeof(three), 8));
    HOLDS(table[1] == 1.5 && table[3] == 3.5);
    table[2] = 99;
    NEED(cudaMemcpyFromSymbol(back, table, sizeof(back), 8));
    HOLDS(back[0] == 1.5 && back[1] == 99 && back[2] == 3.5);
    GIVES(cudaMemcpyFromSymbol(back, table, sizeof(back), sizeof(table)), cudaErrorInvalidValue);
    cudaGetLastError();
    /* Copies and sets take their addresses as they take those of cudaMallocManaged. */
    NEED(cudaMemset(table, 0, sizeof(table)));
    NEED(cudaDeviceSynchronize());
    HOLDS(table[1] == 0);
    NEED(cudaMemcpy(table, three, sizeof(three), cudaMemcpyDefault));
    HOLDS(table[2] == 3.5);
}

/* Modules of the driver API: each has variables of its own, which go with it. */
static const char text[] = ".version 7.0\n.target sm_70\n.address_size 64\n"
                           ".visible .global .attribute(.managed) .align 4 .u32 number = 21;\n"
                           ".visible .global .align 4 .u32 plain = 4;\n"
                           ".visible .global .attribute(.managed) .align 8 .u64 place = generic(number);\n"
                           ".visible .entry twice() {\n.reg .u32 %r;\nld.global.u32 %r, [number];\n"
                           "add.u32 %r, %r, %r;\nst.global.u32 [number], %r;\nret;\n}\n";

/* The driver's function of this name: programs of the runtime do not link its library. */
template <class F> static F driver(const char *name)
{
    static void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void *found = library ? dlsym(library, name) : nullptr;
    if (!found) {
        printf("FAIL managed_variables: there is no %s\n", name);
        exit(1);
    }
    return (F)found;
}
#define CALL(name) driver<decltype(&::name)>(#name)
#define DRIVER(name, ...) equal(#name, __LINE__, (int)CALL(name)(__VA_ARGS__), 0)
#define REFUSES(error, name, ...) equal(#name, __LINE__, (int)CALL(name)(__VA_ARGS__), (int)(error))

static void of_the_driver()
{
    CUmodule one, two;
    CUfunction twice;
    CUdeviceptr a, b;
    size_t size;
    DRIVER(cuModuleLoadData, &one, text);
    DRIVER(cuModuleLoadData, &two, text);
    DRIVER(cuModuleGetGlobal, &a, &size, one, "number");
    DRIVER(cuModuleGetGlobal, &b, nullptr, two, "number");
    HOLDS(a != b && size == 4 && *(int *)a == 21 && *(int *)b == 21);
    DRIVER(cuModuleGetFunction, &twice, two, "twice");
    DRIVER(cuLaunchKernel, twice, 1, 1, 1, 1, 1, 1, 0, 0, nullptr, nullptr);
    DRIVER(cuCtxSynchronize);
    HOLDS(*(int *)a == 21 && *(int *)b == 42);
    CUdeviceptr place;
    DRIVER(cuModuleGetGlobal, &place, &size, two, "place");
    HOLDS(size == 8 && *(CUdeviceptr *)place == b);
    unsigned managed = 0;
    DRIVER(cuPointerGetAttribute, &managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, b);
    HOLDS(managed);
    DRIVER(cuModuleGetGlobal, &b, nullptr, two, "plain");
    DRIVER(cuPointerGetAttribute, &managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, b);
    HOLDS(!managed);
    DRIVER(cuModuleUnload, one);
    REFUSES(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute, &managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, a);
    DRIVER(cuModuleUnload, two);

    CUlibrary library;
    DRIVER(cuLibraryLoadData, &library, text, nullptr, nullptr, 0, nullptr, nullptr, 0);
    DRIVER(cuLibraryGetManaged, &a, &size, library, "number");
    HOLDS(*(int *)a == 21 && size == 4);
    REFUSES(CUDA_ERROR_NOT_FOUND, cuLibraryGetManaged, &b, &size, library, "plain");
    REFUSES(CUDA_ERROR_NOT_FOUND, cuLibraryGetManaged, &b, &size, library, "absent");
    DRIVER(cuLibraryUnload, library);

    /* More than there is: an error of the load, and nothing stays taken. */
    static char much[400];
    snprintf(much, sizeof(much), ".version 7.0\n.target sm_70\n.address_size 64\n"
                                 ".global .attribute(.managed) .align 4 .b8 all[4000000000];\n");
    for (int i = 0; i < 3; i++)
        REFUSES(CUDA_ERROR_OUT_OF_MEMORY, cuModuleLoadData, &one, much);
    /* Two hundred modules one after the other take the memory of one. */
    for (int i = 0; i < 200; i++) {
        snprintf(much, sizeof(much), ".version 7.0\n.target sm_70\n.address_size 64\n"
                                     ".global .attribute(.managed) .align 4 .b8 all[4000000];\n");
        DRIVER(cuModuleLoadData, &one, much);
        DRIVER(cuModuleUnload, one);
    }
}

int main()
{
    int device = 0, managed = 0;
    NEED(cudaGetDevice(&device));
    NEED(cudaDeviceGetAttribute(&managed, cudaDevAttrManagedMemory, device));
    void *at;
    if (!managed || cudaGetSymbolAddress(&at, table) == cudaErrorNotSupported)
        return skip(__FILE__, "there are no managed variables here");
    values();
    one_address();
    as_symbols();
    of_the_driver();
    /* A reset ends them; the next context has new ones, with their first values. */
    NEED(cudaDeviceReset());
    NEED(cudaFree(nullptr));
    equal("counter after a reset", 0, counter, 5);
    counter = 40;
    change<<<1, 2>>>(0);
    NEED(cudaDeviceSynchronize());
    equal("counter after a reset", 1, counter, 42);
    return finish(__FILE__);
}
