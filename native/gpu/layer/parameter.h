// A matrix or vector of a layer, kept as plain elements.
#pragma once

#include <atomic>

#include "core/formats/weight_view.h"
#include "core/status.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class Parameter {
 public:
  Parameter(Runtime& runtime, DType dtype, int64_t rows, int64_t columns)
      : runtime_(runtime), dtype_(dtype), rows_(rows), columns_(columns) {}
  ~Parameter();
  Parameter(const Parameter&) = delete;
  Parameter& operator=(const Parameter&) = delete;

  // Writes `source`, of any format, at row `row` and column `column`. The first call allocates the memory, filled with
  // zeros; an absent source changes nothing.
  Status set(const WeightView& source, int64_t row = 0, int64_t column = 0);
  // Writes `target.size()` elements from row `row` and column `column` on, or zeros if it was never set.
  Status copy(const TensorView& target, int64_t row = 0, int64_t column = 0) const;
  // [rows, columns]; absent until it is set.
  const TensorView& view() const { return view_; }
  // May be called from any thread.
  size_t bytes() const { return bytes_; }

 private:
  Runtime& runtime_;
  DType dtype_;
  int64_t rows_, columns_;
  TensorView view_;
  std::atomic<size_t> bytes_ = 0;
};

}  // namespace moe::MOE_GPU_NAMESPACE
