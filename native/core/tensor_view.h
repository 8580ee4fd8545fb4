// A non-owning view of a tensor in some device's memory: row-major, contiguous.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moe {

constexpr int kMaxRank = 4;

struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  int64_t shape[kMaxRank] = {};

  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t bytes() const { return size() * static_cast<int64_t>(info(dtype).bytes); }
  // An absent optional argument.
  bool absent() const { return rank == 0 && data == nullptr; }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace moe
