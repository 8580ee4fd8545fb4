#include "cpu/runtime/rows.h"

#include <cstring>

#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status gather_rows(const Team& team, const char* name, const TensorView& source, const TensorView& indices,
                   char* target) {
  const int64_t rows = source.shape[0];
  const int64_t bytes = source.row_bytes();
  constexpr int64_t kRowsAtOnce = 16;
  team.for_range(indices.size(), kRowsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = index_or_none(indices.as<const int32_t>()[i], rows);
      if (row < 0) {
        std::memset(target + i * bytes, 0, static_cast<size_t>(bytes));
      } else {
        std::memcpy(target + i * bytes, source.at(row), static_cast<size_t>(bytes));
      }
    }
  });
  return check_indices(name, indices, rows);
}

void add_row(const Kernels& kernels, DType dtype, const void* row, int64_t count, float* line, float* sums) {
  kernels.to_f32(dtype, row, count, line);
  for (int64_t i = 0; i < count; ++i) sums[i] += line[i];
}

}  // namespace moe::cpu
