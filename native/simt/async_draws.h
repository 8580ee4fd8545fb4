// Says of each asynchronous copy whether it takes effect at once. Its random numbers are not the schedule's, which is
// therefore the same in all modes.
#pragma once

#include <cstdint>

#include "simt/options.h"
#include "simt/random.h"

namespace moe::simt::machine {

class AsyncDraws {
 public:
  explicit AsyncDraws(AsyncMode mode = AsyncMode::late, uint64_t seed = 0) : mode_(mode), random_(~seed) {}

  bool early() { return mode_ == AsyncMode::early || (mode_ == AsyncMode::mixed && random_.next() >> 63 != 0); }

 private:
  AsyncMode mode_;
  Random random_;
};

}  // namespace moe::simt::machine
