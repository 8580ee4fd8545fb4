// NVIDIA GPUs as devices. Including this needs no CUDA header.
#pragma once

#include <memory>
#include <vector>

#include "core/backend.h"
#include "core/device_summary.h"
#include "core/kernel_description.h"

namespace moe::cuda {

// This machine's GPUs, or a single entry that says why there is none.
std::vector<DeviceSummary> list_devices(const Variables& variables);

// The kernel table for these GPUs. Rows are chosen as on the first GPU, if there is one.
std::vector<KernelDescription> list_kernels(const Variables& variables);

Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::cuda
