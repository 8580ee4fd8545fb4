// Waiting for another thread without falling asleep: a sleeping thread takes tens of microseconds to wake up.
#pragma once

#include <algorithm>
#include <atomic>
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

using SpinClock = std::chrono::steady_clock;

// When threads that wait may yield. With fewer CPUs than threads they must, as the one that is waited for may need
// their CPU. But another program that gets it keeps it until the scheduler's next tick, 4 ms for a wait of
// microseconds. So after a yield that took long there is none for as long as that; for twice as long if the next takes
// long too, and so on.
class YieldRule {
 public:
  bool allows(SpinClock::time_point now) const { return now >= from_.load(std::memory_order_relaxed); }

  void yielded(SpinClock::time_point begin, SpinClock::time_point end) {
    const bool took_long = end - begin > std::chrono::milliseconds(1);
    const int rest = rest_.load(std::memory_order_relaxed);
    if (took_long) from_.store(end + rest * (end - begin), std::memory_order_relaxed);
    const int next = took_long ? std::min(2 * rest, kMostRest) : 1;
    if (next != rest) rest_.store(next, std::memory_order_relaxed);
  }

 private:
  static constexpr int kMostRest = 64;
  std::atomic<SpinClock::time_point> from_{};
  // For how many times as long as the next yield that takes long there will be none.
  std::atomic<int> rest_{1};
};

// The process's.
inline YieldRule yield_rule;

// Spins until ready(), or for about 200 microseconds: longer than the gap between two layers of a busy model, where
// JavaScript that large weights have displaced from the caches takes 60 to 130, but short enough not to hog the CPU.
// Shorter where the thread may not yield, as the one that is waited for may need its CPU. Returns whether it became
// ready.
template <class Ready>
bool spin_until(Ready&& ready) {
  constexpr std::chrono::microseconds kLongest(200);
  constexpr std::chrono::microseconds kLongestWithoutYield(50);
  constexpr int kSpins = 4;
  const SpinClock::time_point begin = SpinClock::now();
  for (SpinClock::time_point now = begin;;) {
    for (int spin = 0; spin < kSpins; ++spin) {
      if (ready()) return true;
      pause_cpu();
    }
    const bool yields = yield_rule.allows(now);
    const SpinClock::time_point before = now;
    if (yields) std::this_thread::yield();
    now = SpinClock::now();
    if (yields) yield_rule.yielded(before, now);
    if (now - begin >= (yields ? kLongest : kLongestWithoutYield)) return false;
  }
}

}  // namespace moe
