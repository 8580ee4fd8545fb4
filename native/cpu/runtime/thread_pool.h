// The process's worker threads. All CPU devices share them, so several devices never run more threads at once than the
// largest of them asked for: parallel regions of different devices run one after another.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace moe::cpu {

// One thread's place in a parallel region; the caller's is 0.
struct Worker {
  int index;
};

class ThreadPool {
 public:
  // The process's pool. It ends with its last user.
  static std::shared_ptr<ThreadPool> shared();
  ~ThreadPool();

  // Starts the workers for regions of `threads`, so that regions need not. Throws if the system does not start one;
  // those already started stay.
  void start(int threads);

  // Runs `body(worker)` on the calling thread and on those of `threads` - 1 workers that arrive before the caller is
  // done, and returns when all that arrived have finished. `body` takes work until none is left, from an ItemQueue or
  // the like, so that the caller alone can do all of it. Nobody waits for a worker that sleeps or has no CPU. `body`
  // must not wait for other workers. If it throws, so does this, once all have left.
  template <class Body>
  void share(int threads, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    const auto call = [](void* context, const Worker& worker) { (*static_cast<Plain*>(context))(worker); };
    run(threads, call, const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Function = void (*)(void* context, const Worker& worker);

  struct alignas(64) Member {
    // The last region that this member was called to.
    std::atomic<uint32_t> called{0};
    std::thread thread;
  };

  // The region's number, whether its caller has closed it, and how many workers are in it. They share one word so that
  // no worker can enter a closed region: its body refers to the caller's stack.
  struct Gate {
    static constexpr uint64_t kOneInside = 1;
    static constexpr uint64_t kInside = 0x7fffffff;
    static constexpr uint64_t kClosed = 0x80000000;
    static constexpr uint64_t open(uint32_t region) { return uint64_t{region} << 32; }
    static constexpr uint32_t region(uint64_t gate) { return static_cast<uint32_t>(gate >> 32); }
  };

  // As many as a device may ask for. Reserved, so that regions can read the vector while members are added.
  static constexpr size_t kMostMembers = 4096;

  ThreadPool() { members_.reserve(kMostMembers); }
  void run(int threads, Function function, void* context);
  void work(Member& member, int index);
  // Enters the open region unless that is `last`. Returns the number of the region entered, or `last`.
  uint32_t enter(uint32_t last);
  void leave();
  void close();
  // Runs the open region's body on this thread, and keeps what it throws.
  void take_part(const Worker& worker) noexcept;

  std::mutex start_mutex_;
  std::vector<std::unique_ptr<Member>> members_;
  std::atomic<int> started_{0};
  std::mutex region_mutex_;
  std::atomic<bool> ending_{false};
  // The open region's, written before its gate opens and read by those who entered.
  Function function_ = nullptr;
  void* context_ = nullptr;
  int threads_ = 1;
  // The first exception that its body threw.
  std::mutex thrown_mutex_;
  std::exception_ptr thrown_;
  alignas(64) std::atomic<uint64_t> gate_{Gate::kClosed};
};

// Hands out items 0 .. total - 1 of a phase. Every thread first works through its own contiguous range (contiguous
// items read contiguous memory), then takes from the ranges of others.
class ItemQueue {
 public:
  explicit ItemQueue(int threads) : ranges_(static_cast<size_t>(threads)) {}

  // Called before a phase by the thread that opens its region.
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
