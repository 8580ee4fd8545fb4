// The process's worker threads. All CPU devices share them, so several devices never run more threads at once than the
// largest of them asked for: parallel regions of different devices run one after another.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace moe::cpu {

// All threads of a region wait for each other, any number of times. Spins briefly, then sleeps.
class Barrier {
 public:
  void reset(int count) { count_ = count; }
  void wait();

 private:
  int count_ = 1;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> phase_{0};
};

// One thread's place in a parallel region.
struct Worker {
  int index;
  int count;
  Barrier* barrier;

  void wait_for_all() const {
    if (count > 1) barrier->wait();
  }
};

class ThreadPool {
 public:
  // The process's pool; it ends with its last user.
  static std::shared_ptr<ThreadPool> shared();
  ~ThreadPool();

  // Runs `body(worker)` on the calling thread and `threads` - 1 workers, and returns when all have finished. `body`
  // must not throw.
  template <class Body>
  void run(int threads, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(
        threads, [](void* context, const Worker& worker) { (*static_cast<Plain*>(context))(worker); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, const Worker& worker);

  struct alignas(64) Member {
    std::atomic<uint32_t> ticket{0};
    std::thread thread;
  };

  ThreadPool() = default;
  void run(int threads, Function function, void* context);
  void work(Member& member, int index);

  std::mutex region_;
  std::vector<std::unique_ptr<Member>> members_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  int threads_ = 1;
  bool ending_ = false;
  Barrier barrier_;
  alignas(64) std::atomic<int> unfinished_{0};
};

// Hands out the items 0 .. total of a phase: every thread works through its own contiguous range first (contiguous
// items read contiguous memory), then takes from the ranges of others.
class ItemQueue {
 public:
  explicit ItemQueue(int threads) : ranges_(static_cast<size_t>(threads)) {}

  // Before a phase, by one thread, followed by a barrier.
  void reset(int64_t total);
  // The next item for `worker`, or -1.
  int64_t next(int worker);

 private:
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };
  std::vector<Range> ranges_;
};

}  // namespace moe::cpu
