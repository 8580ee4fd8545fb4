// The simulated GPU as a device.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"
#include "core/kernel_description.h"

namespace moe::simt {

std::vector<DeviceSummary> list_devices(const Variables& variables);

// Its kernel table.
std::vector<KernelDescription> list_kernels(const Variables& variables);

Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::simt
