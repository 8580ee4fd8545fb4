// The threads of one device.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "cpu/runtime/thread_pool.h"

namespace moe::cpu {

struct Team {
  std::shared_ptr<ThreadPool> pool;
  int threads;

  template <class Body>
  void run(Body&& body) const {
    pool->run(threads, std::forward<Body>(body));
  }

  // Calls function(thread, begin, end) for pieces of 0 .. count, `grain` long, on all threads; one piece alone on the
  // caller's, as thread 0. Pieces of the same thread follow one another, so that they can share its memory.
  template <class Function>
  void for_pieces(int64_t count, int64_t grain, Function&& function) const {
    if (count <= grain) {
      if (count > 0) function(0, int64_t{0}, count);
      return;
    }
    const int64_t pieces = (count + grain - 1) / grain;
    std::atomic<int64_t> next{0};
    run([&](const Worker& worker) {
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
        function(worker.index, piece * grain, std::min(count, (piece + 1) * grain));
      }
    });
  }

  // The same of function(begin, end).
  template <class Function>
  void for_range(int64_t count, int64_t grain, Function&& function) const {
    for_pieces(count, grain, [&](int, int64_t begin, int64_t end) { function(begin, end); });
  }
};

}  // namespace moe::cpu
