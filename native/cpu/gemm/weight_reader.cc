#include "cpu/gemm/weight_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/formats/dequantize.h"
#include "cpu/gemm/panel_scales.h"

namespace moe::cpu {

namespace {

// Elements that are converted at a time, on the stack.
constexpr int64_t kChunk = 256;

template <class Unit>
void copy_strided(const void* source, int64_t stride, int64_t count, void* values) {
  const Unit* from = static_cast<const Unit*>(source);
  Unit* to = static_cast<Unit*>(values);
  for (int64_t i = 0; i < count; ++i) to[i] = from[i * stride];
}

// Converts floats that lie side by side.
void convert(const Kernels& kernels, DType from, const void* source, int64_t count, DType to, void* values) {
  if (from == to) {
    std::memcpy(values, source, static_cast<size_t>(count) * info(to).bytes);
  } else if (to == DType::f32) {
    kernels.to_f32(from, source, count, static_cast<float*>(values));
  } else if (from == DType::f32) {
    kernels.from_f32(to, static_cast<const float*>(source), count, values);
  } else {
    alignas(64) float chunk[kChunk];
    for (int64_t i = 0; i < count; i += kChunk) {
      const int64_t length = std::min(kChunk, count - i);
      kernels.to_f32(from, static_cast<const char*>(source) + i * static_cast<int64_t>(info(from).bytes), length,
                     chunk);
      kernels.from_f32(to, chunk, length, static_cast<char*>(values) + i * static_cast<int64_t>(info(to).bytes));
    }
  }
}

// Elements first .. first + count - 1 of one row of a matrix. Those of the same dtype are moved bit by bit.
void read_elements(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
                   DType dtype, void* values) {
  // Of a missing row, for example, which has no place.
  if (count == 0) return;
  const int64_t size = static_cast<int64_t>(info(source.dtype).bytes), stride = source.column_stride;
  const char* from = static_cast<const char*>(source.data) + (row * source.row_stride + first * stride) * size;
  if (stride == 1) return convert(kernels, source.dtype, from, count, dtype, values);
  alignas(64) char chunk[kChunk * sizeof(float)];
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t length = std::min(kChunk, count - i);
    size == 4 ? copy_strided<uint32_t>(from + i * stride * size, stride, length, chunk)
              : copy_strided<uint16_t>(from + i * stride * size, stride, length, chunk);
    convert(kernels, source.dtype, chunk, length, dtype,
            static_cast<char*>(values) + i * static_cast<int64_t>(info(dtype).bytes));
  }
}

// Of `count` elements from `first` on, those before `end`. The others are set to zeros.
int64_t present_elements(DType dtype, int64_t first, int64_t count, int64_t end, void* values) {
  const int64_t present = std::clamp<int64_t>(end - first, 0, count), bytes = static_cast<int64_t>(info(dtype).bytes);
  std::memset(static_cast<char*>(values) + present * bytes, 0, static_cast<size_t>((count - present) * bytes));
  return present;
}

}  // namespace

void read_row(const Kernels& kernels, const MatrixView& source, int64_t row, int64_t first, int64_t count,
              float* values) {
  read_elements(kernels, source, row, first, count, DType::f32, values);
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
  const bool exists = row >= 0 && row < weight_.rows;
  const int64_t present = present_elements(dtype, first, count, exists ? weight_.columns : 0, values);
  if (elements_are_codes_) return read_elements(kernels_, weight_.codes, row, first, present, dtype, values);
  alignas(64) float chunk[kChunk];
  for (int64_t i = 0; i < present; i += kChunk) {
    const int64_t length = std::min(kChunk, present - i);
    dequantize_row(row, first + i, length, chunk);
    kernels_.from_f32(dtype, chunk, length, static_cast<char*>(values) + i * static_cast<int64_t>(info(dtype).bytes));
  }
}

void WeightReader::dequantize_row(int64_t row, int64_t first, int64_t count, float* values) const {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t input = first + i;
    const int64_t column = column_of_input_.empty() ? input : column_of_input_[static_cast<size_t>(input)];
    values[i] = column < 0 ? 0.0f : dequantize(*weight_.format, weight_, row, column);
  }
}

bool WeightReader::stored_by_inputs() const {
  return elements_are_codes_ && weight_.codes.row_stride == 1 && weight_.codes.column_stride != 1;
}

void WeightReader::read_input(DType dtype, int64_t input, int64_t first, int64_t count, void* values) const {
  MatrixView inputs = weight_.codes;
  std::swap(inputs.rows, inputs.columns);
  std::swap(inputs.row_stride, inputs.column_stride);
  const int64_t end = input < weight_.columns ? weight_.rows : 0;
  read_elements(kernels_, inputs, input, first, present_elements(dtype, first, count, end, values), dtype, values);
}

void WeightReader::prefetch_input(int64_t input, int64_t first, int64_t count) const {
  if (input >= weight_.columns) return;
  const MatrixView& elements = weight_.codes;
  const int64_t size = static_cast<int64_t>(info(elements.dtype).bytes);
  const char* from = static_cast<const char*>(elements.data) + (input * elements.column_stride + first) * size;
  const int64_t bytes = std::clamp<int64_t>(weight_.rows - first, 0, count) * size;
  for (int64_t at = 0; at < bytes; at += kLineBytes) __builtin_prefetch(from + at);
}

}  // namespace moe::cpu
