// NVIDIA GPUs as devices. No CUDA header is needed to include this.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace moe::cuda {

struct DeviceSummary {
  std::string name;  // "cuda:0"
  bool available;
  std::string detail;  // what it is, or why it cannot be used
};

// The GPUs of this machine; one entry that says why where there is none.
std::vector<DeviceSummary> list_devices();

Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::cuda
