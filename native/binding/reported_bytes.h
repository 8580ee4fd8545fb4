// The memory that V8 would free with an object of JavaScript's, beside its own: the more there is, the sooner V8
// collects.
#pragma once

#include <cstdint>

#include "binding/napi_setup.h"

namespace moe::binding {

class ReportedBytes {
 public:
  // Tells V8 how many there are now: 0 at the end.
  void set(Napi::BasicEnv env, int64_t bytes) {
    if (bytes != bytes_) Napi::MemoryManagement::AdjustExternalMemory(env, bytes - bytes_);
    bytes_ = bytes;
  }

 private:
  int64_t bytes_ = 0;
};

}  // namespace moe::binding
