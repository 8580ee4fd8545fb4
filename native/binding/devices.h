// The devices of this process: `cpu`, and those whose libraries have been loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"
#include "core/kernel_description.h"

namespace moe::binding {

// Loads a device's library, once for the process. `kind` is "simt" or "cuda".
Status load_device(const std::string& kind, const std::string& file);
// The CUDA toolkit that a loaded library was built with; empty if there is none.
std::string cuda_toolkit();
std::vector<DeviceSummary> list_devices(const Variables& variables);
// The rows of all devices' kernel tables.
std::vector<KernelDescription> list_kernels(const Variables& variables);
Status open_device(const std::string& name, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::binding
