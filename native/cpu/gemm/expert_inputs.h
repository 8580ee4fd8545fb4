// What products with quantised weights do to their inputs: columns are multiplied by factors, stand in an order of
// their own, and are rounded to 8 bits. Packed weights know nothing of it; rows of x are brought into this form before
// they are packed.
#pragma once

#include <atomic>

#include "core/formats/weight_view.h"
#include "core/operators/experts.h"
#include "core/status.h"
#include "cpu/gemm/gemm_kernel.h"
#include "cpu/runtime/memory.h"

namespace moe::cpu {

class ExpertInputs {
 public:
  explicit ExpertInputs(const ExpertProduct& product)
      : experts_(product.experts), columns_(product.columns), tokens_(product.token_scheme()) {}

  // Keeps what one expert's weight does, whose order has been checked. Memory is allocated for the first that needs it.
  Status set(int64_t expert, const WeightView& weight);
  // Whether no expert has factors or an order.
  bool absent() const { return scales.data() == nullptr && orders.data() == nullptr; }
  // Whether rows of x are rounded to codes, and are the same for all experts.
  bool rounds_alike() const { return absent() && tokens_.coded(); }
  // Whether rows of x are multiplied as they are.
  bool as_they_are() const { return absent() && !tokens_.coded(); }
  const TokenScheme& tokens() const { return tokens_; }
  // Scales of a row's codes.
  int64_t scales_per_row() const { return tokens_.scales_of(columns_); }
  // Rows that are scaled and not made codes are float32, not rounded, whatever the tokens are.
  RowKind as_read(DType tokens) const { return rows_of(scales.data() != nullptr ? DType::f32 : tokens, tokens_); }
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
  TokenScheme tokens_;
  std::atomic<size_t> bytes_ = 0;
};

}  // namespace moe::cpu
