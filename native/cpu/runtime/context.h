// What a CPU device's operators share.
#pragma once

#include "core/backend.h"
#include "cpu/isa/kernels.h"
#include "cpu/runtime/memory.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

struct Context {
  Context(const Kernels& k, int threads, bool fill, Warnings& w)
      : kernels(k), team{ThreadPool::shared(), threads}, poison(fill), warnings(w), queue(threads) {}

  const Kernels& kernels;
  Team team;
  bool poison;
  Warnings& warnings;
  // For one phase at a time.
  ItemQueue queue;
  // For the operator that is running; kept between calls.
  Buffer workspace;
  // For the matrix product that is running: what its threads need, and rows of x.
  Buffer thread_memory, rows;
  // Bytes of weights that products have read so far.
  int64_t bytes_read = 0;
};

// Cuts a workspace into arrays: take() them all once to learn the size, reserve it, then take() them again to get
// memory.
class Arena {
 public:
  explicit Arena(char* base = nullptr) : base_(base) {}

  template <class T>
  T* take(int64_t count) {
    char* place = base_ == nullptr ? nullptr : base_ + size_;
    size_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(place);
  }
  size_t size() const { return size_; }

 private:
  char* base_;
  size_t size_ = 0;
};

// Reserves one of the context's buffers for `take(arena)` and hands out its parts.
template <class Take>
Status reserve_parts(const Context& context, Buffer& buffer, Take&& take) {
  Arena sizes;
  take(sizes);
  MOE_TRY(buffer.reserve(std::max<size_t>(sizes.size(), 1), context.poison));
  Arena parts(buffer.data());
  take(parts);
  return {};
}

// The same of the workspace.
template <class Take>
Status reserve_workspace(Context& context, Take&& take) {
  return reserve_parts(context, context.workspace, std::forward<Take>(take));
}

}  // namespace moe::cpu
