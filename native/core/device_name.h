// Names of devices: a kind and, where a machine may have several, a number: "cpu", "cuda:1".
#pragma once

#include <string>
#include <string_view>

#include "core/status.h"
#include "core/whole_number.h"

namespace moe {

inline std::string device_kind(const std::string& name) { return name.substr(0, name.find(':')); }

// n of "cuda:n", 0 of "cuda".
inline Status device_index(const std::string& name, int* index) {
  *index = 0;
  const size_t colon = name.find(':');
  if (colon == std::string::npos) return {};
  if (read_whole_number(std::string_view(name).substr(colon + 1), index) && *index >= 0) return {};
  return {Code::device_unavailable, name + ": no device has this number; listDevices() tells which devices there are"};
}

}  // namespace moe
