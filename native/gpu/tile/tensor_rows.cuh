// The rows of a tensor whose dtype is known only at run time, in runs of a few columns.
#pragma once

#include "core/tensor_view.h"
#include "gpu/tile/element.cuh"

namespace moe::MOE_GPU_NAMESPACE {

// Rows of the tensor's last size; no data: absent. Threads take kColumns neighbouring columns.
template <int kColumns>
struct TensorRows {
  void* data;
  DType dtype;
  bool aligned;
  int64_t pitch;

  // Runs begin at multiples of kColumns from multiples of `columns` on.
  TensorRows(const TensorView& tensor, int64_t columns)
      : data(tensor.data),
        dtype(tensor.dtype),
        aligned(is_aligned(tensor, columns)),
        pitch(tensor.absent() ? columns : tensor.shape[tensor.rank - 1]) {}

  // The first `count` columns of a run; the others are zeros.
  __device__ __forceinline__ void load(int64_t row, int64_t column, int64_t count, float (&values)[kColumns]) const {
    load_up_to(data, dtype, row * pitch + column, count, aligned, values);
  }
  __device__ __forceinline__ void store(int64_t row, int64_t column, int64_t count,
                                        const float (&values)[kColumns]) const {
    store_up_to(data, dtype, row * pitch + column, count, aligned, values);
  }

 private:
  static bool is_aligned(const TensorView& tensor, int64_t columns) {
    // Of both 16-bit types alike.
    return tensor.dtype == DType::f32 ? vectors_aligned<float, kColumns>(tensor.data, columns)
                                      : vectors_aligned<bf16, kColumns>(tensor.data, columns);
  }
};

}  // namespace moe::MOE_GPU_NAMESPACE
