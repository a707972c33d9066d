/* A child of fork, before and after the device was used, and a program that the child starts. */
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

__global__ void add(int *at, int amount) { *at += amount; }

static int compute(int start)
{
    int *at, value = start;
    if (cudaMalloc(&at, sizeof(int)) || cudaMemcpy(at, &value, sizeof(int), cudaMemcpyHostToDevice))
        return -1;
    add<<<1, 1>>>(at, 10);
    if (cudaMemcpy(&value, at, sizeof(int), cudaMemcpyDeviceToHost) || cudaFree(at))
        return -2;
    return value;
}

static int status_of(pid_t child)
{
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return compute(5) == 15 ? 0 : 1;
    pid_t child = fork();
    if (child == 0)
        _exit(compute(1) == 11 ? 0 : 1);
    int status = status_of(child);
    report("a child before the first use", status == 0, std::to_string(status));

    int *mine, value = 0;
    NEED(cudaMalloc(&mine, sizeof(int)));
    NEED(cudaMemset(mine, 0, sizeof(int)));
    add<<<1, 1>>>(mine, 1);
    /* NVIDIA gives the child cudaErrorInitializationError; here it may also start anew. The parent's memory is not
       the child's in either case. */
    child = fork();
    if (child == 0) {
        int result = compute(2);
        if (result != 12)
            _exit(cudaGetLastError() == cudaErrorInitializationError ? 0 : 1);
        _exit(cudaMemcpy(&value, mine, sizeof(int), cudaMemcpyDeviceToHost) == cudaSuccess && value == 1 ? 2 : 0);
    }
    status = status_of(child);
    report("a child after it", status == 0, std::to_string(status));
    child = fork();
    if (child == 0) {
        execl("/proc/self/exe", argv[0], "child", (char *)nullptr);
        _exit(3);
    }
    status = status_of(child);
    report("a program that a child starts", status == 0, std::to_string(status));
    /* Several at once. */
    pid_t children[5];
    for (auto &pid : children) {
        pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", argv[0], "child", (char *)nullptr);
            _exit(3);
        }
    }
    int good = 0;
    for (auto pid : children)
        good += status_of(pid) == 0;
    report("five at once", good == 5, std::to_string(good) + " of 5");
    add<<<1, 1>>>(mine, 1);
    NEED(cudaMemcpy(&value, mine, sizeof(int), cudaMemcpyDeviceToHost));
    report("the parent goes on", value == 2, std::to_string(value));
    NEED(cudaFree(mine));
    return failures != 0;
}
