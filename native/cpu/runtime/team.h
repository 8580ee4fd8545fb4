// The threads of one device.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "core/divide.h"
#include "cpu/runtime/thread_pool.h"

namespace moe::cpu {

// The size of a parallel region.
struct Work {
  double bytes = 0;       // read and written
  double operations = 0;  // floating point; a multiply-add counts as two
};

// How many of `most` threads are worth waking. Waking a thread takes tens of microseconds; work of a few microseconds
// is done sooner by one thread alone.
inline int threads_for(const Work& work, int most) {
  // What one thread does at least, far below its best: with data from memory, or products of few rows.
  constexpr double kBytesPerMicrosecond = 10e3;
  constexpr double kOperationsPerMicrosecond = 20e3;
  constexpr double kMicrosecondsPerThread = 8;
  const double microseconds = std::max(work.bytes / kBytesPerMicrosecond, work.operations / kOperationsPerMicrosecond);
  return static_cast<int>(std::clamp(microseconds / kMicrosecondsPerThread, 1.0, static_cast<double>(most)));
}

struct Team {
  std::shared_ptr<ThreadPool> pool;
  int threads;

  // Runs on the caller and whoever comes, see ThreadPool::share; on no more threads than there are items or `work` is
  // worth.
  template <class Body>
  void share(int64_t items, const Work& work, Body&& body) const {
    if (items == 0) return;
    pool->share(static_cast<int>(std::min<int64_t>(threads_for(work, threads), items)), std::forward<Body>(body));
  }

  // Calls function(thread, begin, end) for pieces of 0 .. count - 1, each `grain` long, on all threads. A single piece
  // runs on the caller, as thread 0. Pieces of the same thread run one after another, so they can share its memory.
  template <class Function>
  void for_pieces(int64_t count, int64_t grain, Function&& function) const {
    if (count <= grain) {
      if (count > 0) function(0, int64_t{0}, count);
      return;
    }
    const int64_t pieces = ceil_divide(count, grain);
    std::atomic<int64_t> next{0};
    pool->share(static_cast<int>(std::min<int64_t>(threads, pieces)), [&](const Worker& worker) {
      for (int64_t piece; (piece = next.fetch_add(1, std::memory_order_relaxed)) < pieces;) {
        function(worker.index, piece * grain, std::min(count, (piece + 1) * grain));
      }
    });
  }

  // Calls function(thread, item) for items 0 .. count - 1, each of which reads and writes `bytes_of_each` bytes, in
  // pieces that are worth waking a thread for.
  template <class Function>
  void for_items(int64_t count, int64_t bytes_of_each, Function&& function) const {
    constexpr int64_t kBytesAtOnce = int64_t{64} << 10;
    const int64_t grain = std::max(int64_t{1}, kBytesAtOnce / std::max(int64_t{1}, bytes_of_each));
    for_pieces(count, grain, [&](int thread, int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) function(thread, item);
    });
  }

  // As for_pieces(), with function(begin, end).
  template <class Function>
  void for_range(int64_t count, int64_t grain, Function&& function) const {
    for_pieces(count, grain, [&](int, int64_t begin, int64_t end) { function(begin, end); });
  }
};

}  // namespace moe::cpu
