/* What kernels print comes out on the program's standard output, each call whole. */
#include <unistd.h>

#include "check.h"

__global__ void talk(int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        printf("thread %d of %s: %5.2f %lld %c %% %#x %-4d|\n", i, "many", i * 0.5, (long long)i << 33, 'a' + i % 26, i, i);
}

__global__ void count(int *out)
{
    out[0] = printf("no arguments\n");
    out[1] = printf("%d and %s\n", 12, "text");
}

static char *captured(FILE *file)
{
    fflush(stdout);
    long size = lseek(fileno(file), 0, SEEK_END);
    char *text = (char *)calloc(size + 1, 1);
    pread(fileno(file), text, size, 0);
    return text;
}

int main()
{
    /* The lines go to a file, and are looked for there. */
    FILE *file = tmpfile();
    fflush(stdout);
    int old = dup(1);
    dup2(fileno(file), 1);
    const int n = 100;
    Array<int> out(2);
    talk<<<4, 32>>>(n);
    NEED(cudaDeviceSynchronize());
    count<<<1, 1>>>(out.device);
    out.get();
    char *text = captured(file);
    dup2(old, 1);
    size_t length = 0;
    for (int i = 0; i < n; i++) {
        char line[128];
        snprintf(line, sizeof(line), "thread %d of many: %5.2f %lld %c %% %#x %-4d|\n", i, i * 0.5, (long long)i << 33,
                 'a' + i % 26, i, i);
        length += strlen(line);
        char *found = strstr(text, line);
        if (!found || strstr(found + 1, line))
            describe("line", i, found != nullptr, 1);
    }
    const char *rest = "no arguments\n12 and text\n";
    HOLDS(strlen(text) == length + strlen(rest) && !strcmp(text + length, rest));
    equal("no arguments", 0, out[0], 0);
    equal("two arguments", 1, out[1], 2);
    return finish(__FILE__);
}
