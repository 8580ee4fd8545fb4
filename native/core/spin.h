// Waiting for another thread without yielding the CPU: a sleeping thread takes tens of microseconds to wake up.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace moe {

inline void pause_cpu() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// Spins until ready(), or for about 50 microseconds: longer than the gap between two layers of a busy model, but short
// enough not to hog the CPU. Returns whether it became ready.
template <class Ready>
bool spin_until(Ready&& ready) {
  constexpr int kSpins = 1500;
  for (int spin = 0; spin < kSpins; ++spin) {
    if (ready()) return true;
    pause_cpu();
  }
  return false;
}

}  // namespace moe
