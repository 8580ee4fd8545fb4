#include "cpu/gemm/expert_inputs.h"

#include <algorithm>

#include "core/divide.h"

namespace moe::cpu {

// Copies one expert's `count` given values; value_of(k) stands for those that are not given.
template <class Value, class Default>
Status ExpertInputs::keep(Buffer& values, int64_t expert, const Value* given, int64_t count, Default&& value_of) {
  if (values.data() == nullptr) {
    if (given == nullptr) return {};
    const int64_t size = experts_ * columns_;
    const auto bytes = static_cast<size_t>(round_up(size * static_cast<int64_t>(sizeof(Value)), kAlignment));
    MOE_TRY(values.reserve(bytes, false));
    bytes_ += bytes;
    std::fill_n(values.data(), bytes, 0);
    for (int64_t i = 0; i < size; ++i) reinterpret_cast<Value*>(values.data())[i] = value_of(i % columns_);
  }
  Value* own = reinterpret_cast<Value*>(values.data()) + expert * columns_;
  for (int64_t k = 0; k < columns_; ++k) own[k] = given != nullptr && k < count ? given[k] : value_of(k);
  return {};
}

Status ExpertInputs::set(int64_t expert, const WeightView& weight) {
  MOE_TRY(keep(scales, expert, weight.input_scale, weight.columns, [](int64_t) { return 1.0f; }));
  return keep(orders, expert, weight.input_order, weight.columns, [](int64_t k) { return static_cast<int32_t>(k); });
}

void ExpertInputs::apply(int64_t expert, const float* x, float* values) const {
  if (orders.data() == nullptr) {
    std::copy_n(x, columns_, values);
  } else {
    const int32_t* order = reinterpret_cast<const int32_t*>(orders.data()) + expert * columns_;
    for (int64_t k = 0; k < columns_; ++k) {
      // An order from a file can be anything.
      const int64_t input = order[k];
      values[k] = input >= 0 && input < columns_ ? x[input] : 0.0f;
    }
  }
  if (scales.data() == nullptr) return;
  const float* scale = reinterpret_cast<const float*>(scales.data()) + expert * columns_;
  for (int64_t k = 0; k < columns_; ++k) values[k] *= scale[k];
}

}  // namespace moe::cpu
