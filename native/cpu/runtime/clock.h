// A clock for measuring elapsed time.
#pragma once

#include <chrono>

namespace moe::cpu {

inline double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace moe::cpu
