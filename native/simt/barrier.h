// One of a block's 16 barriers.
#pragma once

#include <array>
#include <cstdint>

#include "simt/machine.h"
#include "simt/scheduler.h"

namespace moe::simt::machine {

class Barrier {
 public:
  void start();
  // The running thread waits until `threads` have arrived; returns how many passed a true predicate.
  int sync(Scheduler& scheduler, const Call& call, unsigned threads, bool predicate);
  void arrive(Scheduler& scheduler, const Call& call, unsigned threads);
  // Called when a thread ends; fails if others wait for more threads than are left.
  void exit(Scheduler& scheduler);

 private:
  void come(Scheduler& scheduler, const Call& call, unsigned threads, bool predicate);
  void complete(Scheduler& scheduler);
  // Whether too few threads are left for the barrier to complete.
  bool out_of_reach(const Scheduler& scheduler) const;

  unsigned expected_ = 0;
  unsigned arrived_ = 0;
  unsigned waiting_threads_ = 0;
  unsigned exited_ = 0;
  int true_predicates_ = 0;
  std::array<uint32_t, kMaxWarps> waiting_{};
  // Indexed by the phase's parity: a thread slow to leave must not see the next phase's state.
  unsigned phase_ = 0;
  std::array<int, 2> results_{};
  std::array<char, 2> keys_{};
};

}  // namespace moe::simt::machine
