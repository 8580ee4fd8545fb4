#include "simt/multiprocessor.h"

#include <utility>

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
  failure_ = {};
  polls_ = 0;
  blockIdx = block;
  blockDim = launch.block;
  gridDim = launch.grid;
  shared_.start(launch.dynamic_shared_bytes);
  for (Barrier& barrier : barriers_) barrier.start();
  const uint64_t seed = mix(options_.seed) ^ linear(block, launch.grid);
  draws_ = AsyncDraws(options_.async, seed);
  if (!scheduler_.start(launch.block, seed, run_thread)) {
    return {Code::out_of_memory,
            "no memory for the stacks of " + std::to_string(scheduler_.size()) +
                " simt threads, each a mapping of its own: raise the limits of mappings (vm.max_map_count) and memory, "
                "or open the device with fewer threads"};
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

  if (!failure_.ok()) return std::move(failure_);
  for (unsigned number = 0; number < scheduler_.size(); ++number) {
    if (!scheduler_.thread(number).exited) return failure("deadlock: " + waits_text(scheduler_));
  }
  for (unsigned warp = 0; warp * kWarpLanes < scheduler_.size(); ++warp) {
    const unsigned first = warp / AsyncProducts::kWarps * AsyncProducts::kWarps;
    if (warps_[warp].products().trace() != 0 && (first + AsyncProducts::kWarps) * kWarpLanes > scheduler_.size()) {
      return failure("warp " + std::to_string(warp) + " made wgmma calls, but its warpgroup lacks warps: blocks of " +
                     std::to_string(scheduler_.size()) + " threads");
    }
    if (warps_[warp].products().trace() != warps_[first].products().trace()) {
      return failure("warp " + std::to_string(warp) + " made other wgmma calls than warp " + std::to_string(first) +
                     " of its warpgroup");
    }
  }
  if (shared_.overrun()) return failure("a store went past the end of an allocation in shared memory");
  return {};
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
  } catch (...) {
    // The machine itself ran out of memory. An exception cannot leave a thread's own stack.
    self.failure_ = caught();
    failed = true;
  }
  sanitizer::release(&self.after_);
  if (failed) self.scheduler_.stop();
  self.scheduler_.exit();
}

void Multiprocessor::fail(const Call& call, const std::string& message) {
  failure_ = failure("thread " + index_text(scheduler_.current().index) + ", " + call_text(call) + ": " + message);
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

Status Multiprocessor::failure(const std::string& what) const {
  return {Code::internal, "kernel " + std::string(launch_->kernel) + ", block " + index_text(block_) + ", " + what +
                              ". Reproduce with " + describe(options_)};
}

}  // namespace moe::simt::machine
