// A device's shared library beside the addon: moe_kernels_simt.so, moe_kernels_cuda.so. It takes the core from the
// addon, so both have one copy of it, and exports one C function that hands over the device.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"
#include "core/kernel_description.h"

namespace moe {

struct DeviceLibrary {
  // A digest of what both sides must have compiled alike: MOE_INTERFACE, from CMake. Nothing else is read where it
  // differs, so this field stays first.
  const char* interface;
  const char* toolkit;  // the version of the CUDA toolkit, or empty
  std::vector<DeviceSummary> (*list_devices)(const Variables& variables);
  std::vector<KernelDescription> (*list_kernels)(const Variables& variables);
  Status (*open)(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);
};

// The exported function's name and type.
constexpr const char* kDeviceLibraryEntry = "moe_device_library";
using DeviceLibraryEntry = const DeviceLibrary*();

}  // namespace moe

// Defines the entry of a library.
#define MOE_DEVICE_LIBRARY(device, toolkit)                                                           \
  extern "C" __attribute__((visibility("default"))) const moe::DeviceLibrary* moe_device_library() {  \
    static constexpr moe::DeviceLibrary library = {MOE_INTERFACE, toolkit, moe::device::list_devices, \
                                                   moe::device::list_kernels, moe::device::open};     \
    return &library;                                                                                  \
  }
