// Runs the threads of one block in turn on one operating system thread. A thread runs until it waits for others or
// ends; the seed decides which ready thread runs next.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "simt/intrinsics/index.h"
#include "simt/random.h"
#include "simt/stack_pool.h"
#include "simt/thread.h"

namespace moe::simt::machine {

constexpr unsigned kWarpLanes = 32;
constexpr unsigned kMaxWarps = 32;
constexpr unsigned kMaxThreads = kWarpLanes * kMaxWarps;

class Scheduler {
 public:
  // Creates the threads of a block of this shape. Each calls entry(), which ends with exit(). False if out of memory.
  [[nodiscard]] bool start(dim3 shape, uint64_t seed, void (*entry)());
  // Returns when no thread is ready (all have exited, or the rest are deadlocked) or after stop().
  void run();

  // The first thing entry() must call.
  void entered() { Context::entered(host_); }
  // Yields until another thread wakes this one.
  void suspend() {
    Context& self = current_->context;
    Context::switch_to(self, successor(loyalty_));
  }
  // Lets others go on, those of other warps too; this thread stays ready.
  void yield() {
    Context& self = current_->context;
    wake(current_->warp(), 1u << current_->lane());
    Context& next = successor(0);
    if (&next != &self) Context::switch_to(self, next);
  }
  // Ends this thread.
  [[noreturn]] void exit();
  // Ends the run; no thread continues.
  [[noreturn]] void stop() { Context::leave(current_->context, host_); }

  void wake(unsigned warp, uint32_t lanes) {
    ready_lanes_[warp] |= lanes;
    ready_warps_ |= uint32_t{lanes != 0} << warp;
  }
  Thread& current() { return *current_; }
  Thread& thread(unsigned number) { return thread(number / kWarpLanes, number % kWarpLanes); }
  Thread& thread(unsigned warp, unsigned lane) { return (*warps_[warp])[lane]; }
  unsigned size() const { return size_; }
  // Whether an address is on a thread's stack.
  bool is_local(const void* address) const { return stacks_.holds(address); }
  // Barriers that have completed, of all threads or of some.
  uint32_t barriers() const { return barriers_; }
  void count_barrier() { ++barriers_; }

 private:
  // Takes one of the ready threads; null if there is none. `loyalty` times in 256 it is one of the last thread's warp,
  // if that has any.
  Thread* next(uint32_t loyalty) {
    if (ready_warps_ == 0) return nullptr;
    const uint64_t random = random_.next();
    const bool stay = (random >> 32 & 255) < loyalty && (ready_warps_ >> warp_ & 1) != 0;
    warp_ = stay ? warp_ : choose_bit(ready_warps_, random >> 40);
    const unsigned lane = choose_bit(ready_lanes_[warp_], random >> 48);
    ready_lanes_[warp_] &= ~(1u << lane);
    ready_warps_ &= ~(uint32_t{ready_lanes_[warp_] == 0} << warp_);
    return &thread(warp_, lane);
  }
  // The context to continue in: a ready thread's, which becomes the current one, or the host's if none is ready.
  Context& successor(uint32_t loyalty) {
    Thread* thread = next(loyalty);
    if (thread == nullptr) return host_;
    current_ = thread;
    threadIdx = thread->index;
    return thread->context;
  }

  StackPool stacks_;  // outlives the contexts on them
  std::vector<std::unique_ptr<std::array<Thread, kWarpLanes>>> warps_;
  unsigned size_ = 0;
  uint32_t barriers_ = 0;
  Context host_;
  Thread* current_ = nullptr;

  Random random_;
  uint32_t loyalty_ = 0;
  unsigned warp_ = 0;  // of the thread that ran last
  uint32_t ready_warps_ = 0;
  std::array<uint32_t, kMaxWarps> ready_lanes_{};
};

}  // namespace moe::simt::machine
