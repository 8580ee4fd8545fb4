#include "cpu/gemm/weight_reader.h"
#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const CopyMatrix& p) {
  const int64_t columns = p.source.columns;
  const int64_t row_bytes = columns * static_cast<int64_t>(info(p.target.dtype).bytes);
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) { lines = arena.take<float>(columns * context.team.threads); }));
  context.team.for_items(p.source.rows, 2 * row_bytes, [&](int thread, int64_t row) {
    float* line = lines + thread * columns;
    read_row(context.kernels, p.source, row, 0, columns, line);
    context.kernels.from_f32(p.target.dtype, line, columns, p.target.as<char>() + row * row_bytes);
  });
  return {};
}

}  // namespace moe::cpu
