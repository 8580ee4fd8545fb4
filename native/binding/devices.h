// The devices of this build: the one place that knows every backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/backend.h"

namespace moe::binding {

struct DeviceSummary {
  std::string name;  // as openDevice takes it
  std::string kind;  // cpu, simt or cuda
  bool available;
  std::string detail;  // what it is, or why it is not here
};

std::vector<DeviceSummary> list_devices();
Status open_device(const std::string& name, const DeviceOptions& options, std::unique_ptr<Backend>* backend);

}  // namespace moe::binding
