/*
 * What bindgen reads: the headers of QEMU that the device uses, and our shim.
 *
 * Headers have moved between releases (exec/ to system/ in 10.1, hw/ to
 * hw/core/ in 11), hence the tests.
 */
#include "qemu/osdep.h"

#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/main-loop.h"
#include "qemu/notify.h"
#include "qom/object.h"
#if __has_include("system/memory.h")
#include "system/memory.h"
#else
#include "exec/memory.h"
#endif
#include "system/system.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_device.h"
#include "hw/pci/pcie.h"
#include "hw/pci/msix.h"
#if __has_include("hw/core/qdev-properties.h")
#include "hw/core/qdev.h"
#include "hw/core/qdev-properties.h"
#else
#include "hw/qdev-core.h"
#include "hw/qdev-properties.h"
#endif
#include "migration/blocker.h"

#include "src/shim.h"
