#include "simt/multiprocessor.h"

#include "simt/intrinsics/index.h"
#include "simt/report.h"
#include "simt/sanitizer.h"

namespace moe::simt::machine {

namespace {

// Thrown to end the thread that found the failure, which frees what its functions own.
struct Failed {};

uint64_t linear(uint3 block, dim3 grid) {
  return (static_cast<uint64_t>(block.z) * grid.y + block.y) * grid.x + block.x;
}

}  // namespace

Status Multiprocessor::run(const Launch& launch, uint3 block) {
  running_ = this;
  launch_ = &launch;
  block_ = block;
  failure_.clear();
  polls_ = 0;
  blockIdx = block;
  blockDim = launch.block;
  gridDim = launch.grid;
  shared_.start(launch.dynamic_shared_bytes);
  for (Barrier& barrier : barriers_) barrier.start();
  if (!scheduler_.start(launch.block, mix(options_.seed) ^ linear(block, launch.grid), run_thread)) {
    return {Code::out_of_memory, "no memory for the stacks of " + std::to_string(scheduler_.size()) + " simt threads"};
  }
  for (unsigned warp = 0, left = scheduler_.size(); left != 0; ++warp) {
    const unsigned lanes = left < kWarpLanes ? left : kWarpLanes;
    warps_[warp].start(warp, static_cast<uint32_t>((uint64_t{1} << lanes) - 1));
    left -= lanes;
  }

  sanitizer::release(&before_);
  scheduler_.run();
  sanitizer::acquire(&after_);
  conflicts_.finish();

  if (failure_.empty()) {
    for (unsigned number = 0; number < scheduler_.size(); ++number) {
      if (scheduler_.thread(number).exited) continue;
      failure_ = heading() + "deadlock: " + waits_text(scheduler_);
      break;
    }
  }
  if (failure_.empty() && shared_.overrun()) {
    failure_ = heading() + "a store went past the end of an allocation in shared memory";
  }
  if (failure_.empty()) return {};
  return {Code::internal, failure_ + ". Reproduce with " + describe(options_)};
}

void Multiprocessor::run_thread() {
  Multiprocessor& self = *running_;
  self.scheduler_.entered();
  sanitizer::acquire(&self.before_);
  bool failed = false;
  try {
    self.launch_->body(self.launch_->arguments);
    self.made_progress();
    const Thread& thread = self.scheduler_.current();
    self.warps_[thread.warp()].exit(self.scheduler_, thread.lane());
    for (Barrier& barrier : self.barriers_) barrier.exit(self.scheduler_);
  } catch (const Failed&) {
    failed = true;
  }
  sanitizer::release(&self.after_);
  if (failed) self.scheduler_.stop();
  self.scheduler_.exit();
}

void Multiprocessor::fail(const Call& call, const std::string& message) {
  failure_ = heading() + "thread " + index_text(scheduler_.current().index) + ", " + call_text(call) + ": " + message;
  throw Failed{};
}

Barrier& Multiprocessor::barrier(const Call& call, int index, unsigned threads) {
  if (index < 0 || index >= kBarriers) {
    fail(call, "a block has barriers 0 to 15, not " + std::to_string(index));
  }
  if (threads == 0 || (threads % kWarpLanes != 0 && threads != scheduler_.size()) || threads > scheduler_.size()) {
    fail(call, "the number of threads must be a multiple of 32 and at most the block's " +
                   std::to_string(scheduler_.size()) + ", not " + std::to_string(threads));
  }
  return barriers_[static_cast<size_t>(index)];
}

std::string Multiprocessor::heading() const {
  return "kernel " + std::string(launch_->kernel) + ", block " + index_text(block_) + ", ";
}

}  // namespace moe::simt::machine
