// Named barriers of a block: 0 is __syncthreads', 1 to 15 are free. `threads` is a multiple of 32 and counts those that
// wait and those that only arrive.
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
