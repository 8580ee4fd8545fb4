// A row of a device's kernel table, in words.
#pragma once

#include <string>

namespace moe {

struct KernelDescription {
  std::string device;
  std::string name;
  std::string tokens;   // accepted dtypes
  std::string format;   // of the weights
  std::string layout;   // id of the packed weights' layout
  std::string needs;    // what the CPU or GPU must have
  std::string numbers;  // how products are formed and added
  // The token dtypes for which this machine uses the row; empty if another row is chosen or the machine lacks what it
  // needs.
  std::string chosen;
};

}  // namespace moe
