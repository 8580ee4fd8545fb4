// A row of a device's kernel table, in words.
#pragma once

#include <string>

namespace moe {

struct KernelDescription {
  std::string device;
  std::string name;
  std::string tokens;   // the dtypes that it takes
  std::string format;   // of the weights
  std::string layout;   // id of the packed weights' layout
  std::string needs;    // what the CPU or GPU must have
  std::string numbers;  // how products are formed and added
  // The token dtypes for which this machine uses it; empty where another row is chosen or what it needs is not here.
  std::string chosen;
};

}  // namespace moe
