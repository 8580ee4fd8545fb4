// A device's entry in the list of all devices, before it is opened.
#pragma once

#include <string>

namespace moe {

struct DeviceSummary {
  std::string name;  // as openDevice takes it: "cpu", "cuda:0"
  bool available;
  std::string detail;  // what it is, or why it is unavailable
};

}  // namespace moe
