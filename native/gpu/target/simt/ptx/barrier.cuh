// Named barriers of a block: 0 belongs to __syncthreads, 1 to 15 are free. `threads`, a multiple of 32, counts both the
// threads that wait and those that only arrive.
#pragma once

#include <source_location>

#include "ptx/device.cuh"

namespace moe::simt::ptx {

// barrier.sync
inline void named_barrier_sync(int id, int threads, std::source_location where = std::source_location::current()) {
  machine::sync({"named_barrier_sync", where}, id, static_cast<unsigned>(threads), false);
}

// barrier.arrive
inline void named_barrier_arrive(int id, int threads, std::source_location where = std::source_location::current()) {
  machine::arrive({"named_barrier_arrive", where}, id, static_cast<unsigned>(threads));
}

}  // namespace moe::simt::ptx
