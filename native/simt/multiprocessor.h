// Runs blocks, one after another, on the calling operating system thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/status.h"
#include "simt/async_draws.h"
#include "simt/bank_conflicts.h"
#include "simt/barrier.h"
#include "simt/launch.h"
#include "simt/options.h"
#include "simt/scheduler.h"
#include "simt/shared_memory.h"
#include "simt/warp.h"

namespace moe::simt::machine {

class Multiprocessor {
 public:
  explicit Multiprocessor(const Options& options) : options_(options) {}

  // Runs one block of a launch whose limits have been checked.
  Status run(const Launch& launch, uint3 block);

  // Of the running thread.
  static Multiprocessor& current() { return *running_; }
  [[noreturn]] void fail(const Call& call, const std::string& message);
  Warp& warp() { return warps_[scheduler_.current().warp()]; }
  Barrier& barrier(const Call& call, int index, unsigned threads);
  Scheduler& scheduler() { return scheduler_; }
  SharedMemory& shared() { return shared_; }
  BankConflicts& conflicts() { return conflicts_; }
  const Options& options() const { return options_; }
  // Whether the asynchronous copy or product that the running thread issues takes effect at once.
  bool draw_early() { return draws_.early(); }
  // See polled().
  void made_progress() { polls_ = 0; }
  bool polls_in_vain() { return ++polls_ > kMaxPolls; }

 private:
  // In a row: more than a thread makes that waits for another one of its block.
  static constexpr uint32_t kMaxPolls = 1 << 20;

  static inline constinit thread_local Multiprocessor* running_ = nullptr;

  static void run_thread();
  Status failure(const std::string& what) const;

  const Options options_;
  const Launch* launch_ = nullptr;
  uint3 block_{};
  Status failure_;
  uint32_t polls_ = 0;  // since anything else happened
  Scheduler scheduler_;
  AsyncDraws draws_;
  SharedMemory shared_;
  BankConflicts conflicts_;
  std::array<Warp, kMaxWarps> warps_;
  std::array<Barrier, kBarriers> barriers_;
  // ThreadSanitizer keys that order a block's threads after earlier work and before later work. With a single key, a
  // thread that begins late would be ordered after threads that have already ended.
  char before_ = 0, after_ = 0;
};

}  // namespace moe::simt::machine
