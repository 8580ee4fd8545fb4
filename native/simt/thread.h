// One CUDA thread of the running block.
#pragma once

#include <cstdint>

#include "simt/async_copy.h"
#include "simt/call.h"
#include "simt/context.h"
#include "simt/intrinsics/vector_types.h"
#include "simt/shared_writes.h"

namespace moe::simt::machine {

struct Thread {
  Context context;
  uint3 index{};
  unsigned number = 0;  // in the block, x fastest
  bool exited = false;
  // The call it waits in and, for a warp's call, the mask passed to it.
  Call call;
  uint32_t mask = 0;
  AsyncCopies copies;
  SharedWrites writes;

  unsigned warp() const { return number / 32; }
  unsigned lane() const { return number % 32; }
};

}  // namespace moe::simt::machine
