#include "gpu/layer/parameter.h"

#include "gpu/gemm/pack.cuh"
#include "gpu/plan/views.h"

namespace moe::MOE_GPU_NAMESPACE {

Parameter::~Parameter() {
  if (view_.data != nullptr) runtime_.release(view_.data);
}

Status Parameter::set(const WeightView& source, int64_t row, int64_t column) {
  if (source.absent()) return {};
  if (view_.absent()) {
    TensorView made = gpu::matrix_view(nullptr, dtype_, rows_, columns_);
    const auto bytes = static_cast<size_t>(made.bytes());
    MOE_TRY(runtime_.allocate(bytes, &made.data));
    view_ = made;
    bytes_ = bytes;
    MOE_TRY(runtime_.fill(made.data, 0, bytes));
  }
  char* place = view_.as<char>() + (row * columns_ + column) * static_cast<int64_t>(info(dtype_).bytes);
  return launch_pack_weight(source, {}, {.data = place, .dtype = dtype_, .rows = source.rows, .pitch = source.columns},
                            runtime_.traits(), runtime_.stream());
}

Status Parameter::copy(const TensorView& target, int64_t row, int64_t column) const {
  if (view_.absent()) return runtime_.fill(target.data, 0, static_cast<size_t>(target.bytes()));
  char* place = view_.as<char>() + (row * columns_ + column) * static_cast<int64_t>(info(dtype_).bytes);
  const MatrixView source = whole_matrix(gpu::matrix_view(place, dtype_, 1, target.size()));
  return launch_pack_rows(source, {}, {.data = target.data, .dtype = target.dtype, .rows = 1, .pitch = target.size()},
                          runtime_.traits(), runtime_.stream());
}

}  // namespace moe::MOE_GPU_NAMESPACE
