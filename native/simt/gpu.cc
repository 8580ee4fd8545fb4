#include "simt/gpu.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>

#include "core/threads.h"
#include "simt/multiprocessor.h"

namespace moe::simt {

namespace {

std::string text(dim3 shape) {
  return "(" + std::to_string(shape.x) + ", " + std::to_string(shape.y) + ", " + std::to_string(shape.z) + ")";
}

// The limits of all GPUs since sm_80, except that shared memory is sm_90's.
Status check(const machine::Launch& launch) {
  const std::string kernel = "launch of " + std::string(launch.kernel) + ": ";
  const dim3 grid = launch.grid, block = launch.block;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
    return {Code::internal,
            kernel + "the grid must be within (1, 1, 1) and (2147483647, 65535, 65535), it is " + text(grid)};
  }
  if (block.x < 1 || block.y < 1 || block.z < 1 || block.x > 1024 || block.y > 1024 || block.z > 64 ||
      uint64_t{block.x} * block.y * block.z > machine::kMaxThreads) {
    return {Code::internal, kernel + "a block has 1 to 1024 threads, within (1024, 1024, 64), it is " + text(block)};
  }
  if (const uint64_t threads = uint64_t{block.x} * block.y * block.z; threads > launch.most_threads) {
    return {Code::internal, kernel + "by its bounds a block has at most " + std::to_string(launch.most_threads) +
                                " threads, it has " + std::to_string(threads)};
  }
  if (launch.dynamic_shared_bytes > machine::kMaxSharedBytes) {
    return {Code::internal, kernel + "a block may have " + std::to_string(machine::kMaxSharedBytes) +
                                " bytes of shared memory, it asks for " + std::to_string(launch.dynamic_shared_bytes)};
  }
  return {};
}

// Visits 0 .. count - 1 in an order drawn from the seed, without a table: i -> (start + i * step) mod count.
class Order {
 public:
  Order(uint64_t count, uint64_t seed) : count_(count), start_(machine::mix(seed) % count) {
    step_ = machine::mix(seed + 1) % count;
    while (std::gcd(step_, count) != 1) step_ = (step_ + 1) % count;
  }
  uint64_t operator[](uint64_t i) const {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(i) * step_ + start_) % count_);
  }

 private:
  uint64_t count_, start_, step_;
};

}  // namespace

Gpu::Gpu(const Options& options) : options_(options), queue_(options.late_work) {
  for (int i = 0; i < std::max(1, options.threads); ++i) {
    multiprocessors_.push_back(std::make_unique<machine::Multiprocessor>(options_));
  }
}

Gpu::~Gpu() { queue_.run(); }

Status Gpu::enqueue(const machine::Launch& launch, std::shared_ptr<const void> arguments) {
  return queue_.submit([this, launch, arguments = std::move(arguments)] { return this->launch(launch); });
}

Status Gpu::record(const machine::Launch& launch, std::shared_ptr<const void> arguments, Recording& recording) const {
  if (!prepared_.contains(launch.function)) {
    return {Code::internal, "launch of " + std::string(launch.kernel) +
                                ": recorded before the kernel was ready: a GPU would load it, which a capture does not "
                                "allow"};
  }
  recording.push_back({launch, std::move(arguments)});
  return {};
}

Status Gpu::launch(const machine::Launch& launch) {
  MOE_TRY(check(launch));
  prepare(launch);
  const dim3 grid = launch.grid;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  const Order order(blocks, options_.seed);
  const size_t workers = std::min<uint64_t>(multiprocessors_.size(), blocks);
  // Each multiprocessor starts with a block of its own, so that all take part, and then takes the next free one.
  std::atomic<uint64_t> next{workers};
  std::mutex mutex;
  Status failure;

  const auto work = [&](size_t worker) {
    for (uint64_t i = worker; i < blocks; i = next++) {
      const uint64_t block = order[i];
      Status status = guarded([&] {
        return multiprocessors_[worker]->run(
            launch, {static_cast<unsigned>(block % grid.x), static_cast<unsigned>(block / grid.x % grid.y),
                     static_cast<unsigned>(block / grid.x / grid.y)});
      });
      if (status.ok()) continue;
      next = blocks;
      std::lock_guard lock(mutex);
      if (failure.ok()) failure = std::move(status);
    }
  };
  {
    Threads helpers;
    try {
      for (size_t worker = 1; worker < workers; ++worker) helpers.start(work, worker);
    } catch (...) {
      next = blocks;
      throw;
    }
    work(0);
  }
  if (options_.bank_conflicts) collect_conflicts(launch.kernel);
  return failure;
}

void Gpu::collect_conflicts(const char* kernel) {
  conflicts_.clear();
  for (const auto& multiprocessor : multiprocessors_) {
    for (const auto& [call, count] : multiprocessor->conflicts().take()) {
      conflicts_[call].accesses += count.accesses;
      conflicts_[call].extra += count.extra;
    }
  }
  if (!conflicts_.empty()) fprintf(stderr, "simt: %s\n", machine::conflicts_text(kernel, conflicts_).c_str());
}

}  // namespace moe::simt
