// What products with quantised weights do to their inputs: columns are multiplied by factors, stand in an order of
// their own, and are rounded to 8 bits. Packed weights know nothing of it; rows of x are brought into this form before
// they are multiplied.
#pragma once

#include <atomic>

#include "core/formats/weight_view.h"
#include "core/operators/experts.h"
#include "gpu/plan/input_use.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

class ExpertInputs {
 public:
  ExpertInputs(Runtime& runtime, const ExpertProduct& product)
      : runtime_(runtime), experts_(product.experts), columns_(product.columns), tokens_(product.token_scheme()) {}
  ~ExpertInputs();
  ExpertInputs(const ExpertInputs&) = delete;
  ExpertInputs& operator=(const ExpertInputs&) = delete;

  // Keeps what one expert's weight does; `up`, unless absent, must do the same. Waits for the device if there is
  // anything to keep. Memory is allocated for the first expert that needs it.
  Status set(int64_t expert, const WeightView& weight, const WeightView& up);
  gpu::InputUse use() const { return gpu::input_use(tokens_, scales_ != nullptr, orders_ != nullptr); }
  const TokenScheme& tokens() const { return tokens_; }
  // [experts, columns]; null if no expert has any.
  const float* scales() const { return static_cast<const float*>(scales_); }
  const int* orders() const { return static_cast<const int*>(orders_); }
  // May be called from any thread.
  size_t bytes() const { return bytes_; }

 private:
  template <class Value, class Default>
  Status keep(void** values, int64_t expert, const std::vector<Value>& given, Default&& value_of);

  Runtime& runtime_;
  int64_t experts_, columns_;
  TokenScheme tokens_;
  void* scales_ = nullptr;
  void* orders_ = nullptr;
  std::atomic<size_t> bytes_ = 0;
};

}  // namespace moe::MOE_GPU_NAMESPACE
