// One kernel launch as the machine sees it.
#pragma once

#include <cstddef>

#include "simt/intrinsics/vector_types.h"

namespace moe::simt::machine {

struct Launch {
  const char* kernel;    // its name in reports
  const void* function;  // identifies the kernel
  dim3 grid;
  dim3 block;
  unsigned most_threads;  // of a block, by the kernel's bounds
  size_t dynamic_shared_bytes;
  // Calls the kernel with its arguments; run by every thread.
  void (*body)(const void* arguments);
  const void* arguments;
};

}  // namespace moe::simt::machine
