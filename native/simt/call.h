// One call of a CUDA primitive in a kernel, as reports name it.
#pragma once

#include <source_location>

namespace moe::simt::machine {

struct Call {
  const char* name = "";
  std::source_location where;
};

}  // namespace moe::simt::machine
