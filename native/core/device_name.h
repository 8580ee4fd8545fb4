// Names of devices: a kind and, where a machine may have several, a number: "cpu", "cuda:1".
#pragma once

#include <charconv>
#include <string>

#include "core/status.h"

namespace moe {

inline std::string device_kind(const std::string& name) { return name.substr(0, name.find(':')); }

// n of "cuda:n", 0 of "cuda".
inline Status device_index(const std::string& name, int* index) {
  *index = 0;
  const size_t colon = name.find(':');
  if (colon == std::string::npos) return {};
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + colon + 1, end, *index);
  if (error == std::errc() && rest == end && *index >= 0) return {};
  return {Code::device_unavailable, name + ": no device has this number; listDevices() tells which devices there are"};
}

}  // namespace moe
