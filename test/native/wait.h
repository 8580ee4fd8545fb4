// Waits for a stream's work.
#pragma once

#include "core/stream.h"

namespace moe::test {

// Blocks until all work enqueued so far is done; returns the kept failure and clears it.
inline Status wait(Stream& stream) {
  return stream.run([] { return Status(); });
}

}  // namespace moe::test
