/*
 * What must fail in NVML, and how, against NVIDIA's own nvml.h: a line for each check, `PASS name` or `FAIL name: why`.
 *
 * cc nvml_errors.c -lnvidia-ml && ./a.out
 */
#include <stdio.h>
#include <string.h>

#include <nvml.h>

static int failures;

static void report(const char *what, nvmlReturn_t got, nvmlReturn_t expected)
{
    if (got == expected)
        printf("PASS %s\n", what);
    else {
        printf("FAIL %s: %s (%d), expected %s (%d)\n", what, nvmlErrorString(got), got,
               nvmlErrorString(expected), expected);
        failures++;
    }
}
#define GIVES(call, expected) report(#call, call, expected)

static void holds(const char *what, int good)
{
    printf(good ? "PASS %s\n" : "FAIL %s: does not hold\n", what);
    failures += !good;
}
#define HOLDS(condition) holds(#condition, condition)

int main(void)
{
    nvmlDevice_t device, other;
    nvmlMemory_t memory;
    nvmlMemory_v2_t memory2;
    nvmlUtilization_t utilization;
    nvmlPciInfo_t pci;
    char text[NVML_DEVICE_UUID_V2_BUFFER_SIZE], uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
    unsigned int count, value;
    int version;

    GIVES(nvmlDeviceGetCount_v2(&count), NVML_ERROR_UNINITIALIZED);
    GIVES(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_ERROR_UNINITIALIZED);
    GIVES(nvmlSystemGetDriverVersion(text, sizeof text), NVML_ERROR_UNINITIALIZED);
    GIVES(nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
    HOLDS(strlen(nvmlErrorString(NVML_ERROR_NOT_SUPPORTED)) > 0);
    HOLDS(strcmp(nvmlErrorString(NVML_ERROR_NOT_SUPPORTED), nvmlErrorString(NVML_SUCCESS)));
    HOLDS(!strcmp(nvmlErrorString((nvmlReturn_t)12345), nvmlErrorString(NVML_ERROR_UNKNOWN)));

    GIVES(nvmlInit_v2(), NVML_SUCCESS);
    GIVES(nvmlInit_v2(), NVML_SUCCESS);
    GIVES(nvmlShutdown(), NVML_SUCCESS);
    /* Each initialisation wants its end. */
    GIVES(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
    HOLDS(count == 1);

    GIVES(nvmlDeviceGetCount_v2(NULL), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByIndex_v2(count, &other), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByIndex_v2(0xffffffff, &other), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByIndex_v2(0, NULL), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_SUCCESS);
    GIVES(nvmlDeviceGetHandleByUUID(NULL, &other), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByUUID("GPU-no-such-device", &other), NVML_ERROR_NOT_FOUND);
    GIVES(nvmlDeviceGetHandleByPciBusId_v2(NULL, &other), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetHandleByPciBusId_v2("ffff:ff:1f.0", &other), NVML_ERROR_NOT_FOUND);
    GIVES(nvmlDeviceGetUUID(device, uuid, sizeof uuid), NVML_SUCCESS);
    GIVES(nvmlDeviceGetHandleByUUID(uuid, &other), NVML_SUCCESS);
    HOLDS(other == device);
    GIVES(nvmlDeviceGetPciInfo_v3(device, &pci), NVML_SUCCESS);
    GIVES(nvmlDeviceGetHandleByPciBusId_v2(pci.busId, &other), NVML_SUCCESS);
    HOLDS(other == device);

    GIVES(nvmlDeviceGetName(device, text, 2), NVML_ERROR_INSUFFICIENT_SIZE);
    GIVES(nvmlDeviceGetName(device, NULL, sizeof text), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetName(NULL, text, sizeof text), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetUUID(device, text, 4), NVML_ERROR_INSUFFICIENT_SIZE);
    GIVES(nvmlSystemGetDriverVersion(text, 1), NVML_ERROR_INSUFFICIENT_SIZE);
    GIVES(nvmlSystemGetDriverVersion(NULL, sizeof text), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlSystemGetCudaDriverVersion(NULL), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlSystemGetCudaDriverVersion(&version), NVML_SUCCESS);
    GIVES(nvmlSystemGetProcessName(0xfffffff0, text, sizeof text), NVML_ERROR_NOT_FOUND);

    /* No device, and what is none. */
    GIVES(nvmlDeviceGetMemoryInfo(NULL, &memory), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetMemoryInfo((nvmlDevice_t)&count, &memory), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetMemoryInfo(device, NULL), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetUtilizationRates(device, NULL), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetUtilizationRates(NULL, &utilization), NVML_ERROR_INVALID_ARGUMENT);
    memory2.version = 0;
    GIVES(nvmlDeviceGetMemoryInfo_v2(device, &memory2), NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    memory2.version = nvmlMemory_v2;
    GIVES(nvmlDeviceGetMemoryInfo_v2(device, &memory2), NVML_SUCCESS);
    HOLDS(memory2.used + memory2.free + memory2.reserved == memory2.total);
    GIVES(nvmlDeviceGetTemperature(device, (nvmlTemperatureSensors_t)99, &value), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetClockInfo(device, (nvmlClockType_t)99, &value), NVML_ERROR_INVALID_ARGUMENT);
    GIVES(nvmlDeviceGetComputeRunningProcesses_v3(device, NULL, NULL), NVML_ERROR_INVALID_ARGUMENT);

    /* A guest changes nothing of the host's GPU, and its device has none of this. */
    GIVES(nvmlDeviceSetPowerManagementLimit(device, 100000), NVML_ERROR_NOT_SUPPORTED);
    GIVES(nvmlDeviceSetPersistenceMode(device, NVML_FEATURE_ENABLED), NVML_ERROR_NOT_SUPPORTED);
    GIVES(nvmlDeviceResetGpuLockedClocks(device), NVML_ERROR_NOT_SUPPORTED);
    GIVES(nvmlDeviceSetMigMode(device, NVML_DEVICE_MIG_ENABLE, NULL), NVML_ERROR_NOT_SUPPORTED);

    GIVES(nvmlShutdown(), NVML_SUCCESS);
    GIVES(nvmlShutdown(), NVML_ERROR_UNINITIALIZED);
    GIVES(nvmlDeviceGetMemoryInfo(device, &memory), NVML_ERROR_UNINITIALIZED);
    return failures != 0;
}
