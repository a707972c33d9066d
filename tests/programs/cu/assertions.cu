/* A kernel's assert: the message, the error, and that it ends the context. In a child, which it spoils. */
#include <cassert>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

__global__ void claims(int limit, int *out)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = i;
    assert(i < limit && "too high");
}

static int child()
{
    Array<int> out(128);
    claims<<<2, 64>>>(128, out.device);
    if (cudaDeviceSynchronize() != cudaSuccess)
        return 1;
    claims<<<2, 64>>>(100, out.device);
    if (cudaDeviceSynchronize() != cudaErrorAssert)
        return 2;
    if (cudaDeviceSynchronize() != cudaErrorAssert)
        return 3;
    void *at;
    if (cudaMalloc(&at, 16) != cudaErrorAssert)
        return 4;
    return 0;
}

int main()
{
    int pipes[2];
    if (pipe(pipes))
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipes[1], 2);
        close(pipes[0]);
        _exit(child());
    }
    close(pipes[1]);
    static char text[1 << 16];
    size_t length = 0;
    ssize_t got;
    while (length + 1 < sizeof(text) && (got = read(pipes[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += got;
    int status = -1;
    waitpid(pid, &status, 0);
    HOLDS(WIFEXITED(status));
    equal("the child's step", 0, WEXITSTATUS(status), 0);
    HOLDS(strstr(text, "assertions.cu:"));
    HOLDS(strstr(text, "block: [1,0,0], thread: [36,0,0] Assertion `i < limit && \"too high\"` failed."));
    HOLDS(!strstr(text, "block: [1,0,0], thread: [35,0,0]"));
    return finish(__FILE__);
}
