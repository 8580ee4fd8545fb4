#include "core/formats/dequantize.h"

#include "cpu/gemm/weight_reader.h"
#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const Dequantize& p) {
  const WeightReader reader(context.kernels, p.weight);
  const int64_t columns = p.weight.columns;
  context.team.for_items(p.weight.rows, 2 * p.values.row_bytes(),
                         [&](int, int64_t row) { reader.read(p.values.dtype, row, 0, columns, p.values.at(row)); });
  return {};
}

Status run(Context& context, const QuantizationError& p) {
  const int64_t rows = p.weight.rows, columns = p.weight.columns;
  SquareSums* sums = nullptr;  // of each row
  float* lines = nullptr;
  MOE_TRY(reserve_workspace(context, [&](Arena& arena) {
    sums = arena.take<SquareSums>(rows);
    lines = arena.take<float>(columns * context.team.threads);
  }));
  context.team.for_items(rows, 2 * columns * int64_t{sizeof(float)}, [&](int thread, int64_t row) {
    float* line = lines + thread * columns;
    read_row(context.kernels, p.values, row, 0, columns, line);
    sums[row] = {};
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t input = input_of(p.weight, column);
      if (input < 0 || input >= columns) continue;
      sums[row].add(line[input], dequantize(*p.weight.format, p.weight, row, column));
    }
  });
  SquareSums total;
  for (int64_t row = 0; row < rows; ++row) total.add(sums[row]);
  *p.error.as<float>() = total.relative();
  return {};
}

}  // namespace moe::cpu
