// What quantised weights of experts do to their inputs: columns are multiplied by factors, and stand in an order of
// their own. Packed codes know nothing of it; rows of x are brought into this form before they are packed.
#pragma once

#include <atomic>

#include "core/formats/weight_view.h"
#include "core/status.h"
#include "cpu/runtime/memory.h"

namespace moe::cpu {

class ExpertInputs {
 public:
  ExpertInputs(int64_t experts, int64_t columns) : experts_(experts), columns_(columns) {}

  // Keeps what one expert's weight does, whose order has been checked. Memory is allocated for the first that needs it.
  Status set(int64_t expert, const WeightView& weight);
  bool absent() const { return scales.data() == nullptr && orders.data() == nullptr; }
  // Products of scaled inputs are not rounded, so their rows are float32 whatever the tokens are.
  DType as_read(DType tokens) const { return scales.data() == nullptr ? tokens : DType::f32; }
  // values[k] = x[order[k]] * scale[k] for the stored columns k of one expert.
  void apply(int64_t expert, const float* x, float* values) const;
  // May be called from any thread.
  size_t bytes() const { return bytes_; }

  // Float32 and i32 [experts, columns]; empty if no expert has any.
  Buffer scales, orders;

 private:
  template <class Value, class Default>
  Status keep(Buffer& values, int64_t expert, const Value* given, int64_t count, Default&& value_of);

  int64_t experts_, columns_;
  std::atomic<size_t> bytes_ = 0;
};

}  // namespace moe::cpu
