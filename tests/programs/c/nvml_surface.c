/*
 * Functions of NVML that neither nvidia-smi nor another test calls, with whole arguments: names that nvml.h hides behind
 * macros, and what a device says that has none of it. A line for each check, `PASS name` or `FAIL name: why`.
 *
 * cc nvml_surface.c -lnvidia-ml && ./a.out
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nvml.h>

static int failures;

static void report(const char *what, int good, nvmlReturn_t got)
{
    printf(good ? "PASS %s\n" : "FAIL %s: gives %d\n", what, got);
    failures += !good;
}
#define OK(call)                                          \
    do {                                                  \
        nvmlReturn_t got = (call);                        \
        report(#call, got == NVML_SUCCESS, got);          \
    } while (0)
#define HOLDS(condition) report(#condition, condition, 0)

static int told;

/* What not every device has: a value, or that there is none. Says whether there is a value. */
static int either(const char *what, nvmlReturn_t got)
{
    report(what, got == NVML_SUCCESS || got == NVML_ERROR_NOT_SUPPORTED, got);
    told += got == NVML_SUCCESS;
    return got == NVML_SUCCESS;
}
#define EITHER(call) either(#call, call)

/* A function by its name, with the type of one that the header declares. */
#define OLD(name, like) ((__typeof__(&like))need(#name))

static void *need(const char *name)
{
    void *found = dlsym(RTLD_DEFAULT, name);

    if (!found) {
        printf("FAIL %s: there is no such function\n", name);
        exit(1);
    }
    return found;
}

nvmlReturn_t initialise(void);
nvmlReturn_t number(unsigned int *);
nvmlReturn_t processes(nvmlDevice_t, unsigned int *, void *);

int main(void)
{
    nvmlDevice_t device, other, list[4];
    nvmlPciInfo_t pci, is;
    nvmlPciInfoExt_t place;
    nvmlTemperature_t temperature;
    nvmlGpuTopologyLevel_t level;
    nvmlGpuP2PStatus_t status;
    nvmlPstates_t state;
    nvmlEnableState_t enabled;
    unsigned int count, value, bits;
    unsigned long long long_value;
    char serial[NVML_DEVICE_SERIAL_BUFFER_SIZE], infos[4096];
    int same = 0;

    OK(OLD(nvmlInit, initialise)());
    OK(OLD(nvmlDeviceGetHandleByIndex, nvmlDeviceGetHandleByIndex)(0, &device));
    OK(nvmlDeviceGetPciInfo(device, &pci));
    OK(OLD(nvmlDeviceGetPciInfo, nvmlDeviceGetPciInfo)(device, &is));
    HOLDS(is.device == pci.device && is.bus == pci.bus && is.pciDeviceId == pci.pciDeviceId);
    OK(OLD(nvmlDeviceGetPciInfo_v2, nvmlDeviceGetPciInfo)(device, &is));
    HOLDS(is.device == pci.device && is.pciSubSystemId == pci.pciSubSystemId);
    OK(OLD(nvmlDeviceGetHandleByPciBusId, nvmlDeviceGetHandleByPciBusId)(pci.busId, &other));
    HOLDS(other == device);
    memset(&place, 0, sizeof place);
    place.version = nvmlPciInfoExt_v1;
    OK(nvmlDeviceGetPciInfoExt(device, &place));
    HOLDS(place.device == pci.device && place.pciDeviceId == pci.pciDeviceId);
    if (EITHER(nvmlDeviceGetSerial(device, serial, sizeof serial))) {
        OK(nvmlDeviceGetHandleBySerial(serial, &other));
        HOLDS(other == device);
    } else {
        HOLDS(nvmlDeviceGetHandleBySerial("1", &other) == NVML_ERROR_NOT_FOUND);
    }

    /* This process has no context: none is listed, whichever form asks. */
    static const char *const lists[] = {
        "nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses",
        "nvmlDeviceGetGraphicsRunningProcesses_v2", "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses", "nvmlDeviceGetMPSComputeRunningProcesses_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        count = 16;
        nvmlReturn_t got = ((__typeof__(&processes))need(lists[i]))(device, &count, infos);
        report(lists[i], got == NVML_SUCCESS && count <= 16, got);
        if (strstr(lists[i], "Graphics") || strstr(lists[i], "MPS"))
            HOLDS(count == 0);
    }

    EITHER(nvmlDeviceGetClock(device, NVML_CLOCK_SM, NVML_CLOCK_ID_CURRENT, &value));
    HOLDS(nvmlDeviceGetClock(device, NVML_CLOCK_SM, (nvmlClockId_t)9, &value) == NVML_ERROR_INVALID_ARGUMENT);
    EITHER(nvmlDeviceGetCurrentClocksEventReasons(device, &long_value));
    EITHER(nvmlDeviceGetGpuMaxPcieLinkGeneration(device, &value));
    if (EITHER(nvmlDeviceGetMemoryBusWidth(device, &bits)))
        HOLDS(bits >= 8 && bits % 8 == 0);
    if (EITHER(nvmlDeviceGetNumGpuCores(device, &count)))
        HOLDS(count > 0);
    EITHER(nvmlDeviceGetPowerManagementMode(device, &enabled));
    if (EITHER(nvmlDeviceGetPowerState(device, &state)))
        HOLDS((int)state >= 0 && ((int)state <= 15 || state == NVML_PSTATE_UNKNOWN));
    memset(&temperature, 0, sizeof temperature);
    temperature.version = nvmlTemperature_v1;
    temperature.sensorType = NVML_TEMPERATURE_GPU;
    EITHER(nvmlDeviceGetTemperatureV(device, &temperature));
    temperature.version = 1;
    HOLDS(nvmlDeviceGetTemperatureV(device, &temperature) == NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    EITHER(nvmlDeviceGetTotalEnergyConsumption(device, &long_value));

    OK(nvmlDeviceGetDisplayMode(device, &enabled));
    HOLDS(enabled == NVML_FEATURE_DISABLED);
    OK(nvmlDeviceGetMaxMigDeviceCount(device, &count));
    HOLDS(count == 0);
    value = 9;
    OK(nvmlDeviceIsMigDeviceHandle(device, &value));
    HOLDS(value == 0);
    value = 9;
    OK(nvmlDeviceGetMultiGpuBoard(device, &value));
    HOLDS(value == 0);
    value = 99;
    OK(nvmlDeviceGetNumFans(device, &value));
    HOLDS(value < 16);
    OK(nvmlDeviceGetSupportedEventTypes(device, &long_value));
    OK(nvmlDeviceOnSameBoard(device, device, &same));
    HOLDS(same == 1);
    OK(nvmlDeviceGetP2PStatus(device, device, NVML_P2P_CAPS_INDEX_READ, &status));
    HOLDS(nvmlDeviceGetP2PStatus(device, device, (nvmlGpuP2PCapsIndex_t)99, &status) == NVML_ERROR_INVALID_ARGUMENT);
    OK(nvmlDeviceGetTopologyCommonAncestor(device, device, &level));
    HOLDS(level == NVML_TOPOLOGY_INTERNAL);
    count = 4;
    OK(nvmlDeviceGetTopologyNearestGpus(device, NVML_TOPOLOGY_SYSTEM, &count, list));
    HOLDS(count == 0);
    count = 4;
    OK(nvmlSystemGetTopologyGpuSet(0, &count, list));
    HOLDS(count == 1 && list[0] == device);
    OK(OLD(nvmlGetBlacklistDeviceCount, number)(&count));
    OK(nvmlGetExcludedDeviceCount(&value));
    HOLDS(count == value);
    count = 0;
    OK(nvmlSystemGetHicVersion(&count, NULL));
    HOLDS(count == 0);
    OK(nvmlUnitGetCount(&count));
    HOLDS(count == 0);
    HOLDS(told >= 1);
    OK(nvmlShutdown());
    return failures != 0;
}
