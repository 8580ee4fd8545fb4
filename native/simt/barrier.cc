#include "simt/barrier.h"

#include <bit>

#include "simt/report.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

void Barrier::start() {
  expected_ = 0;
  arrived_ = 0;
  waiting_threads_ = 0;
  exited_ = 0;
  true_predicates_ = 0;
  waiting_.fill(0);
}

int Barrier::sync(Scheduler& scheduler, const Call& call, unsigned threads, bool predicate) {
  Thread& self = scheduler.current();
  const unsigned warp = self.warp();
  if (waiting_[warp] != 0) {
    const Thread& other = scheduler.thread(warp, static_cast<unsigned>(std::countr_zero(waiting_[warp])));
    if (other.call.where.line() != call.where.line() || other.call.where.column() != call.where.column()) {
      fail(call, "lanes of one warp are in different barrier calls; thread " + std::to_string(other.number) +
                     " waits in " + call_text(other.call));
    }
  }
  const unsigned phase = phase_ % 2;
  come(scheduler, call, threads, predicate);
  if (arrived_ == expected_) {
    complete(scheduler);
  } else {
    self.call = call;
    self.mask = 0;
    waiting_[warp] |= 1u << self.lane();
    ++waiting_threads_;
    scheduler.suspend();
  }
  sanitizer::acquire(&keys_[phase]);
  return results_[phase];
}

void Barrier::arrive(Scheduler& scheduler, const Call& call, unsigned threads) {
  come(scheduler, call, threads, false);
  if (arrived_ == expected_) complete(scheduler);
}

void Barrier::come(Scheduler& scheduler, const Call& call, unsigned threads, bool predicate) {
  if (arrived_ == 0) {
    expected_ = threads;
  } else if (expected_ != threads) {
    fail(call, "waits for " + std::to_string(threads) + " threads, but others wait at the same barrier for " +
                   std::to_string(expected_));
  }
  if (out_of_reach(scheduler)) {
    fail(call, std::to_string(exited_) + " threads of the block have exited, so that " + std::to_string(threads) +
                   " cannot come");
  }
  sanitizer::release(&keys_[phase_ % 2]);
  ++arrived_;
  true_predicates_ += predicate;
}

void Barrier::complete(Scheduler& scheduler) {
  results_[phase_ % 2] = true_predicates_;
  ++phase_;
  scheduler.count_barrier();
  arrived_ = 0;
  waiting_threads_ = 0;
  true_predicates_ = 0;
  for (unsigned warp = 0; warp * kWarpLanes < scheduler.size(); ++warp) {
    scheduler.wake(warp, waiting_[warp]);
    waiting_[warp] = 0;
  }
}

bool Barrier::out_of_reach(const Scheduler& scheduler) const {
  return expected_ - arrived_ > scheduler.size() - exited_ - waiting_threads_;
}

void Barrier::exit(Scheduler& scheduler) {
  ++exited_;
  if (waiting_threads_ == 0 || !out_of_reach(scheduler)) return;
  for (unsigned warp = 0; warp * kWarpLanes < scheduler.size(); ++warp) {
    if (waiting_[warp] == 0) continue;
    const Thread& other = scheduler.thread(warp, static_cast<unsigned>(std::countr_zero(waiting_[warp])));
    fail(other.call, "this thread exits, but thread " + std::to_string(other.number) + " waits for " +
                         std::to_string(expected_) + " threads, which cannot come now");
  }
}

}  // namespace moe::simt::machine
