// Views of workspaces.
#pragma once

#include "core/tensor_view.h"

namespace moe::gpu {

inline TensorView vector_view(void* data, DType dtype, int64_t size) {
  TensorView view;
  view.data = data;
  view.dtype = dtype;
  view.rank = 1;
  view.shape[0] = size;
  return view;
}

inline TensorView matrix_view(void* data, DType dtype, int64_t rows, int64_t columns) {
  TensorView view = vector_view(data, dtype, rows);
  view.rank = 2;
  view.shape[1] = columns;
  return view;
}

}  // namespace moe::gpu
