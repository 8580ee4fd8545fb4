// Waiting for another thread without falling asleep: a sleeping thread takes tens of microseconds to wake up.
#pragma once

#include <chrono>
#include <thread>

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

// Spins until ready(), or for about 200 microseconds: longer than the gap between two layers of a busy model, where
// JavaScript that large weights have displaced from the caches takes 60 to 130, but short enough not to hog the CPU.
// Returns whether it became ready. Lets other threads run meanwhile: with fewer CPUs than threads, the one that is
// waited for may need this one.
template <class Ready>
bool spin_until(Ready&& ready) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kLongest(200);
  constexpr int kSpins = 4;
  const Clock::time_point begin = Clock::now();
  do {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (ready()) return true;
      pause_cpu();
    }
    std::this_thread::yield();
  } while (Clock::now() - begin < kLongest);
  return false;
}

}  // namespace moe
