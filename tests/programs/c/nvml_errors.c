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
/* A row: the result, and the call with what is bad about it. `cargo xtask test --only abi` compares each with nvml.h's
   comments: the function's own comment names the result of BAD; that of BEYOND stands in the list of all results, and
   the last words are what that says of it. */
#define BAD(expected, call) GIVES(call, expected)
#define BEYOND(expected, call, why) GIVES(call, expected)

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

    BAD(NVML_ERROR_UNINITIALIZED, nvmlDeviceGetCount_v2(&count));
    BAD(NVML_ERROR_UNINITIALIZED, nvmlDeviceGetHandleByIndex_v2(0, &device));
    BAD(NVML_ERROR_UNINITIALIZED, nvmlSystemGetDriverVersion(text, sizeof text));
    BAD(NVML_ERROR_UNINITIALIZED, nvmlShutdown());
    HOLDS(strlen(nvmlErrorString(NVML_ERROR_NOT_SUPPORTED)) > 0);
    HOLDS(strcmp(nvmlErrorString(NVML_ERROR_NOT_SUPPORTED), nvmlErrorString(NVML_SUCCESS)));
    HOLDS(!strcmp(nvmlErrorString((nvmlReturn_t)12345), nvmlErrorString(NVML_ERROR_UNKNOWN)));

    GIVES(nvmlInit_v2(), NVML_SUCCESS);
    GIVES(nvmlInit_v2(), NVML_SUCCESS);
    GIVES(nvmlShutdown(), NVML_SUCCESS);
    /* Each initialisation wants its end. */
    GIVES(nvmlDeviceGetCount_v2(&count), NVML_SUCCESS);
    HOLDS(count == 1);

    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetCount_v2(NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2(count, &other));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2(0xffffffff, &other));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetHandleByIndex_v2(0, NULL));
    GIVES(nvmlDeviceGetHandleByIndex_v2(0, &device), NVML_SUCCESS);
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetHandleByUUID(NULL, &other));
    BAD(NVML_ERROR_NOT_FOUND, nvmlDeviceGetHandleByUUID("GPU-no-such-device", &other));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetHandleByPciBusId_v2(NULL, &other));
    BAD(NVML_ERROR_NOT_FOUND, nvmlDeviceGetHandleByPciBusId_v2("ffff:ff:1f.0", &other));
    GIVES(nvmlDeviceGetUUID(device, uuid, sizeof uuid), NVML_SUCCESS);
    GIVES(nvmlDeviceGetHandleByUUID(uuid, &other), NVML_SUCCESS);
    HOLDS(other == device);
    GIVES(nvmlDeviceGetPciInfo_v3(device, &pci), NVML_SUCCESS);
    GIVES(nvmlDeviceGetHandleByPciBusId_v2(pci.busId, &other), NVML_SUCCESS);
    HOLDS(other == device);

    BAD(NVML_ERROR_INSUFFICIENT_SIZE, nvmlDeviceGetName(device, text, 2));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetName(device, NULL, sizeof text));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetName(NULL, text, sizeof text));
    BAD(NVML_ERROR_INSUFFICIENT_SIZE, nvmlDeviceGetUUID(device, text, 4));
    BAD(NVML_ERROR_INSUFFICIENT_SIZE, nvmlSystemGetDriverVersion(text, 1));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlSystemGetDriverVersion(NULL, sizeof text));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlSystemGetCudaDriverVersion(NULL));
    GIVES(nvmlSystemGetCudaDriverVersion(&version), NVML_SUCCESS);
    BAD(NVML_ERROR_NOT_FOUND, nvmlSystemGetProcessName(0xfffffff0, text, sizeof text));

    /* No device, and what is none. */
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMemoryInfo(NULL, &memory));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMemoryInfo((nvmlDevice_t)&count, &memory));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMemoryInfo(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetUtilizationRates(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetUtilizationRates(NULL, &utilization));
    memory2.version = 0;
    BEYOND(NVML_ERROR_ARGUMENT_VERSION_MISMATCH, nvmlDeviceGetMemoryInfo_v2(device, &memory2),
           "the provided version is invalid");
    memory2.version = nvmlMemory_v2;
    GIVES(nvmlDeviceGetMemoryInfo_v2(device, &memory2), NVML_SUCCESS);
    HOLDS(memory2.used + memory2.free + memory2.reserved == memory2.total);
    BEYOND(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetTemperature(device, (nvmlTemperatureSensors_t)99, &value),
           "a supplied argument is invalid");
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetClockInfo(device, (nvmlClockType_t)99, &value));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetComputeRunningProcesses_v3(device, NULL, NULL));

    /* No place for the result. */
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetIndex(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetIndex(NULL, &value));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMinorNumber(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetBrand(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetArchitecture(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetPciInfo_v3(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetUUID(device, NULL, sizeof uuid));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetCudaComputeCapability(device, NULL, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetBAR1MemoryInfo(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetPowerUsage(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetPerformanceState(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetPersistenceMode(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetComputeMode(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetEncoderUtilization(device, NULL, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMaxPcieLinkWidth(device, NULL));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlSystemGetNVMLVersion(NULL, sizeof text));
    BAD(NVML_ERROR_INSUFFICIENT_SIZE, nvmlSystemGetNVMLVersion(text, 1));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlSystemGetProcessName(1, NULL, sizeof text));
    /* Unknown values. */
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetMaxClockInfo(device, (nvmlClockType_t)99, &value));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetClock(device, NVML_CLOCK_SM, (nvmlClockId_t)99, &value));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetTemperatureThreshold(device, (nvmlTemperatureThresholds_t)99, &value));
    BAD(NVML_ERROR_INVALID_ARGUMENT, nvmlDeviceGetTopologyNearestGpus(device, (nvmlGpuTopologyLevel_t)99, &count, NULL));

    /* A guest changes nothing of the host's GPU, and its device has none of this. */
    BAD(NVML_ERROR_NOT_SUPPORTED, nvmlDeviceSetPowerManagementLimit(device, 100000));
    BAD(NVML_ERROR_NOT_SUPPORTED, nvmlDeviceSetPersistenceMode(device, NVML_FEATURE_ENABLED));
    BAD(NVML_ERROR_NOT_SUPPORTED, nvmlDeviceResetGpuLockedClocks(device));
    BAD(NVML_ERROR_NOT_SUPPORTED, nvmlDeviceSetMigMode(device, NVML_DEVICE_MIG_ENABLE, NULL));

    GIVES(nvmlShutdown(), NVML_SUCCESS);
    BAD(NVML_ERROR_UNINITIALIZED, nvmlShutdown());
    BAD(NVML_ERROR_UNINITIALIZED, nvmlDeviceGetMemoryInfo(device, &memory));
    return failures != 0;
}
