// A kernel's call of a CUDA primitive, as named in reports.
#pragma once

#include <source_location>

namespace moe::simt::machine {

struct Call {
  const char* name = "";
  std::source_location where;
};

}  // namespace moe::simt::machine
