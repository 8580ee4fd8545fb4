// The simulated GPU as a device.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace moe::simt {

struct DeviceSummary {
  std::string name;
  bool available;
  std::string detail;
};

std::vector<DeviceSummary> list_devices();

Status open(int index, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::simt
