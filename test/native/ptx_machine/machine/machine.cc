// A warp carries out an instruction for all its lanes at once. Where lanes have taken different branches, those that
// are furthest behind go first, so that they meet the others again as early as they can. The warps of a block take
// turns. Blocks run one after the other, on as many threads as the host has.
#include "machine.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "warp.h"

namespace ptx_machine {

void run(const Kernel& kernel, const Launch& launch, std::span<const Range> memory) {
  const uint64_t blocks = uint64_t{launch.grid[0]} * launch.grid[1] * launch.grid[2];
  std::atomic<uint64_t> next = 0;
  std::exception_ptr failure;
  std::mutex mutex;
  const auto work = [&] {
    try {
      Block block(kernel, launch, memory);
      for (uint64_t index = next++; index < blocks; index = next++) {
        const auto x = static_cast<unsigned>(index % launch.grid[0]);
        const uint64_t rest = index / launch.grid[0];
        block.run({x, static_cast<unsigned>(rest % launch.grid[1]), static_cast<unsigned>(rest / launch.grid[1])});
      }
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (failure == nullptr) failure = std::current_exception();
      next = blocks;
    }
  };
  const uint64_t threads = std::min<uint64_t>(std::max(1u, std::thread::hardware_concurrency()), blocks);
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (failure != nullptr) std::rethrow_exception(failure);
}

}  // namespace ptx_machine
