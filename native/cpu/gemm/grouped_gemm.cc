#include <cstring>
#include <vector>

#include "cpu/gemm/row_product.h"
#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const GroupedGemm& p) {
  const auto* packed = static_cast<const CpuPackedExperts*>(p.weight);
  const ExpertProduct& weights = packed->weights();
  const int64_t rows = p.y.shape[0];
  const int32_t* token_of_row = p.token_of_row.as<const int32_t>();

  std::vector<int32_t> offsets;
  Status status = check_offsets("groupedGemm: offsets", p.offsets, rows, &offsets);
  const auto zero_rows = [&](int64_t first, int64_t end) {
    if (end > first) std::memset(p.y.at(first), 0, static_cast<size_t>((end - first) * p.y.row_bytes()));
  };
  zero_rows(0, offsets[0]);
  zero_rows(offsets[weights.experts], rows);
  if (token_of_row != nullptr) {
    for (int64_t row = 0; row < rows; ++row) {
      if (index_or_none(token_of_row[row], p.x.shape[0]) < 0) zero_rows(row, row + 1);
    }
    Status indices = check_indices("groupedGemm: tokenOfRow", p.token_of_row, p.x.shape[0]);
    if (status.ok()) status = std::move(indices);
  }
  MOE_TRY(multiply_rows(context, {.x = p.x,
                                  .weights = packed,
                                  .bias = p.bias,
                                  .offsets = offsets.data(),
                                  .token_of_row = token_of_row,
                                  .arithmetic_dtype = p.x.dtype,
                                  .y = p.y}));
  return status;
}

}  // namespace moe::cpu
