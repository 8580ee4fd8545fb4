#include "cpu/gemm/weight_reader.h"

#include <algorithm>
#include <cstring>

#include "core/formats/dequantize.h"

namespace moe::cpu {

namespace {

template <class Unit>
void copy_elements(const MatrixView& source, int64_t row, int64_t first, int64_t count, void* values) {
  const Unit* from = static_cast<const Unit*>(source.data) + row * source.row_stride + first * source.column_stride;
  Unit* to = static_cast<Unit*>(values);
  if (source.column_stride == 1) {
    std::copy_n(from, count, to);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = from[i * source.column_stride];
  }
}

}  // namespace

void read_row(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
              float* values) {
  const int64_t element = static_cast<int64_t>(info(source.dtype).bytes);
  const int64_t stride = source.column_stride * element;
  const char* from = static_cast<const char*>(source.data) + row * source.row_stride * element + first * stride;
  if (source.column_stride == 1) return kernels.to_f32(source.dtype, from, count, values);
  for (int64_t i = 0; i < count; ++i) kernels.to_f32(source.dtype, from + i * stride, 1, values + i);
}

WeightReader::WeightReader(const Kernels& kernels, const WeightView& weight)
    : kernels_(kernels), weight_(weight), elements_are_codes_(elements_are_codes(weight)) {
  if (weight.input_order == nullptr) return;
  column_of_input_.resize(static_cast<size_t>(weight.columns), -1);
  for (int64_t column = 0; column < weight.columns; ++column) {
    const int64_t input = weight.input_order[column];
    if (input < 0 || input >= weight.columns) continue;
    column_of_input_[static_cast<size_t>(input)] = static_cast<int32_t>(column);
  }
}

void WeightReader::read(DType dtype, int64_t row, int64_t first, int64_t count, void* values) const {
  const int64_t bytes = static_cast<int64_t>(info(dtype).bytes);
  const int64_t present = row >= 0 && row < weight_.rows ? std::clamp<int64_t>(weight_.columns - first, 0, count) : 0;
  std::memset(static_cast<char*>(values) + present * bytes, 0, static_cast<size_t>((count - present) * bytes));
  if (elements_are_codes_ && weight_.codes.dtype == dtype) {
    return bytes == 4 ? copy_elements<uint32_t>(weight_.codes, row, first, present, values)
                      : copy_elements<uint16_t>(weight_.codes, row, first, present, values);
  }
  constexpr int64_t kChunk = 256;
  alignas(64) float chunk[kChunk];
  for (int64_t i = 0; i < present; i += kChunk) {
    const int64_t length = std::min(kChunk, present - i);
    read_f32(row, first + i, length, chunk);
    kernels_.from_f32(dtype, chunk, length, static_cast<char*>(values) + i * bytes);
  }
}

void WeightReader::read_f32(int64_t row, int64_t first, int64_t count, float* values) const {
  if (elements_are_codes_) return read_row(kernels_, weight_.codes, row, first, count, values);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t input = first + i;
    const int64_t column = column_of_input_.empty() ? input : column_of_input_[static_cast<size_t>(input)];
    values[i] = column < 0 ? 0.0f : dequantize(*weight_.format, weight_, row, column);
  }
}

}  // namespace moe::cpu
