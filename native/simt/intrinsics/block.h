// Barriers of a block. Stricter than the hardware in one respect: a barrier needs every thread of the block, even
// exited ones.
#pragma once

#include <source_location>

#include "simt/machine.h"

namespace moe::simt {

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  machine::sync({"__syncthreads", where}, 0, machine::block_size(), false);
}
inline int __syncthreads_count(int predicate, std::source_location where = std::source_location::current()) {
  return machine::sync({"__syncthreads_count", where}, 0, machine::block_size(), predicate != 0);
}
inline int __syncthreads_and(int predicate, std::source_location where = std::source_location::current()) {
  const int threads = static_cast<int>(machine::block_size());
  return machine::sync({"__syncthreads_and", where}, 0, machine::block_size(), predicate != 0) == threads;
}
inline int __syncthreads_or(int predicate, std::source_location where = std::source_location::current()) {
  return machine::sync({"__syncthreads_or", where}, 0, machine::block_size(), predicate != 0) != 0;
}

}  // namespace moe::simt
