// A random weight of any format whose scales are float32 and whose offsets are zero points.
#pragma once

#include <vector>

#include "core/formats/dequantize.h"
#include "random.h"

namespace moe::test {

class RandomWeight {
 public:
  RandomWeight(Random& random, const WeightFormat& format, int64_t rows, int64_t columns) {
    const int64_t row_bytes = format.row_bytes(columns);
    codes_.resize(static_cast<size_t>(rows * row_bytes));
    view_ = {.format = &format, .rows = rows, .columns = columns};
    if (format.plain()) {
      const int64_t bytes = format.bits / 8;
      for (int64_t i = 0; i < rows * columns; ++i) {
        // Values that bfloat16 and float16 represent exactly, so that every arithmetic computes the same products.
        const float value = static_cast<float>(random.below(201) - 100) / 64.0f;
        const uint32_t bits = format.code == CodeType::f32   ? float_bits(value)
                              : format.code == CodeType::f16 ? f16(value).bits
                                                             : bf16(value).bits;
        memcpy(codes_.data() + i * bytes, &bits, static_cast<size_t>(bytes));
      }
      view_.codes = dense_matrix(codes_.data(), plain_dtype(format), rows, columns);
      return;
    }
    for (uint8_t& byte : codes_) byte = static_cast<uint8_t>(random.below(256));
    view_.codes = dense_matrix(codes_.data(), DType::u8, rows, row_bytes);
    const int64_t group_rows = (rows + format.scales.rows - 1) / format.scales.rows;
    const int64_t groups = (columns + format.scales.columns - 1) / format.scales.columns;
    scales_ = random.values(group_rows * groups);
    view_.scales = dense_matrix(scales_.data(), DType::f32, group_rows, groups);
    if (format.offset != Offset::zero_point) return;
    for (int64_t i = 0; i < group_rows * groups; ++i) {
      zeros_.push_back(static_cast<uint8_t>(random.below(int64_t{1} << format.bits)));
    }
    view_.zeros = dense_matrix(zeros_.data(), DType::u8, group_rows, groups);
  }

  const WeightView& view() const { return view_; }
  float at(int64_t row, int64_t column) const { return dequantize(*view_.format, view_, row, column); }

 private:
  std::vector<uint8_t> codes_;
  std::vector<float> scales_;
  std::vector<uint8_t> zeros_;
  WeightView view_;
};

}  // namespace moe::test
