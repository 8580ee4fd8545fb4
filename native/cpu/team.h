// The threads of one device.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "cpu/thread_pool.h"

namespace moe::cpu {

struct Team {
  std::shared_ptr<ThreadPool> pool;
  int threads;

  template <class Body>
  void run(Body&& body) const {
    pool->run(threads, std::forward<Body>(body));
  }

  // Calls function(begin, end) for pieces of 0 .. count, on all threads; in one piece where count is at most `grain`.
  template <class Function>
  void for_range(int64_t count, int64_t grain, Function&& function) const {
    if (count <= grain) {
      if (count > 0) function(int64_t{0}, count);
      return;
    }
    const int64_t pieces = (count + grain - 1) / grain;
    std::atomic<int64_t> next{0};
    run([&](const Worker&) {
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
        function(piece * grain, std::min(count, (piece + 1) * grain));
      }
    });
  }
};

}  // namespace moe::cpu
