// The devices of this build: the one place that knows every backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"
#include "core/kernel_description.h"

namespace moe::binding {

std::vector<DeviceSummary> list_devices(const Variables& variables);
// The rows of all devices' kernel tables.
std::vector<KernelDescription> list_kernels(const Variables& variables);
Status open_device(const std::string& name, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::binding
