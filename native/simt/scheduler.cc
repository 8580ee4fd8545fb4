#include "simt/scheduler.h"

namespace moe::simt::machine {

namespace {

// How often, in 256, the last thread's warp continues while it can. Drawn per block: in some, warps run in lockstep; in
// others, a warp runs as far ahead as barriers allow.
constexpr uint32_t kLoyalties[] = {0, 128, 250, 256};

}  // namespace

bool Scheduler::start(dim3 shape, uint64_t seed, void (*entry)()) {
  size_ = shape.x * shape.y * shape.z;
  if (!stacks_.reserve(size_)) return false;
  while (warps_.size() * kWarpLanes < size_) warps_.push_back(std::make_unique<std::array<Thread, kWarpLanes>>());
  random_ = Random(seed);
  loyalty_ = kLoyalties[random_.next() % std::size(kLoyalties)];
  warp_ = 0;
  ready_warps_ = 0;
  barriers_ = 0;
  ready_lanes_.fill(0);
  for (unsigned number = 0; number < size_; ++number) {
    Thread& thread = this->thread(number);
    thread.index = {number % shape.x, number / shape.x % shape.y, number / (shape.x * shape.y)};
    thread.number = number;
    thread.exited = false;
    thread.copies.clear();
    thread.writes.clear();
    thread.context.prepare(stacks_[number], entry);
    wake(thread.warp(), 1u << thread.lane());
  }
  return true;
}

void Scheduler::run() {
  host_.adopt_caller();
  Context::switch_to(host_, successor(loyalty_));
}

void Scheduler::exit() {
  Thread& self = *current_;
  self.exited = true;
  Context::leave(self.context, successor(loyalty_));
}

}  // namespace moe::simt::machine
