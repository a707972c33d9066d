/* The sizes and offsets that src/structs.rs states, against NVIDIA's header: compiled, not run. */
#include <stddef.h>
#include <nvml.h>

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type)
#define FIELD(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field)

SIZE(nvmlPciInfo_t, 68);
FIELD(nvmlPciInfo_t, domain, 16);
FIELD(nvmlPciInfo_t, pciSubSystemId, 32);
FIELD(nvmlPciInfo_t, busId, 36);

SIZE(nvmlPciInfoExt_v1_t, 64);
FIELD(nvmlPciInfoExt_v1_t, pciDeviceId, 16);
FIELD(nvmlPciInfoExt_v1_t, baseClass, 24);
FIELD(nvmlPciInfoExt_v1_t, busId, 32);

SIZE(nvmlMemory_t, 24);
FIELD(nvmlMemory_t, free, 8);
FIELD(nvmlMemory_t, used, 16);

SIZE(nvmlMemory_v2_t, 40);
FIELD(nvmlMemory_v2_t, total, 8);
FIELD(nvmlMemory_v2_t, reserved, 16);
FIELD(nvmlMemory_v2_t, free, 24);
FIELD(nvmlMemory_v2_t, used, 32);
_Static_assert(nvmlMemory_v2 == (40 | 2 << 24), "its version");

SIZE(nvmlBAR1Memory_t, 24);
FIELD(nvmlBAR1Memory_t, bar1Free, 8);
FIELD(nvmlBAR1Memory_t, bar1Used, 16);

SIZE(nvmlUtilization_t, 8);
FIELD(nvmlUtilization_t, memory, 4);

SIZE(nvmlProcessInfo_v1_t, 16);
FIELD(nvmlProcessInfo_v1_t, usedGpuMemory, 8);

SIZE(nvmlProcessInfo_t, 24);
FIELD(nvmlProcessInfo_t, usedGpuMemory, 8);
FIELD(nvmlProcessInfo_t, gpuInstanceId, 16);
FIELD(nvmlProcessInfo_t, computeInstanceId, 20);

#ifdef nvmlTemperature_v1
SIZE(nvmlTemperature_v1_t, 12);
FIELD(nvmlTemperature_v1_t, temperature, 8);
#endif

#ifdef nvmlUUID_v1
SIZE(nvmlUUID_v1_t, 52);
FIELD(nvmlUUID_v1_t, value, 8);
#endif

_Static_assert(NVML_ERROR_DEPRECATED == 26 && NVML_ERROR_UNKNOWN == 999, "results");
