// NVIDIA GPUs as devices. No CUDA header is needed to include this.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"

namespace moe::cuda {

// The GPUs of this machine; one entry that says why where there is none.
std::vector<DeviceSummary> list_devices();

Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::cuda
