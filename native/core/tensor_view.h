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

  // Of a matrix: the bytes of a row, and where an element is.
  int64_t row_bytes() const { return shape[1] * static_cast<int64_t>(info(dtype).bytes); }
  char* at(int64_t row, int64_t column = 0) const {
    return as<char>() + row * row_bytes() + column * static_cast<int64_t>(info(dtype).bytes);
  }
};

// A strided matrix (strides in elements) in some tensor's memory: transposed, interleaved or part of a larger one. A
// vector is a one-row matrix.
struct MatrixView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0, columns = 0;
  int64_t row_stride = 0, column_stride = 1;

  MOE_HOST_DEVICE bool absent() const { return data == nullptr; }
  // Whether it has this many elements. Their number may overflow, since strides may be 0.
  bool has_size(int64_t size) const {
    if (rows == 0 || columns == 0) return size == 0;
    return size / rows == columns && size % rows == 0;
  }
};

// A row-major matrix without gaps.
inline MatrixView dense_matrix(const void* data, DType dtype, int64_t rows, int64_t columns) {
  return {.data = data, .dtype = dtype, .rows = rows, .columns = columns, .row_stride = columns, .column_stride = 1};
}

// All of a tensor as a matrix; a vector becomes one row.
inline MatrixView whole_matrix(const TensorView& tensor) {
  if (tensor.absent()) return {};
  const int64_t rows = tensor.rank == 1 ? 1 : tensor.shape[0];
  const int64_t columns = tensor.rank == 1 ? tensor.shape[0] : tensor.shape[1];
  return dense_matrix(tensor.data, tensor.dtype, rows, columns);
}

}  // namespace moe
