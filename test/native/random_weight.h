// A random weight of any format.
#pragma once

#include <vector>

#include "core/formats/dequantize.h"
#include "random.h"

namespace moe::test {

class RandomWeight {
 public:
  RandomWeight(Random& random, const WeightFormat& format, int64_t rows, int64_t columns) : random_(random) {
    view_ = {.format = &format, .rows = rows, .columns = columns};
    if (format.plain()) {
      make_plain();
      return;
    }
    codes_ = bytes(rows * format.row_bytes(columns));
    if (format.code == CodeType::e4m3) {
      for (uint8_t& code : codes_) code = (code & 0x7f) == 0x7f ? 0 : code;
    }
    view_.codes = dense_matrix(codes_.data(), DType::u8, rows, format.row_bytes(columns));
    view_.scales = make_level(format.scales, scales_);
    view_.super_scales = make_level(format.super_scales, super_scales_);
    if (format.offset != Offset::zero_point) {
      view_.zeros = make_level(format.zeros(), zeros_);
      view_.super_zeros = make_level(format.super_zeros(), super_zeros_);
    } else {
      const MatrixView& scales = view_.scales;
      zeros_ = bytes(scales.rows * scales.columns);
      for (uint8_t& zero : zeros_) zero &= static_cast<uint8_t>((1u << format.bits) - 1u);
      view_.zeros = dense_matrix(zeros_.data(), DType::u8, scales.rows, scales.columns);
    }
  }

  const WeightView& view() const { return view_; }
  float at(int64_t row, int64_t column) const {
    if (values_.empty()) dequantize_all();
    return values_[static_cast<size_t>(row * view_.columns + column)];
  }

 private:
  // Once: tests read a value for every row of tokens that it is multiplied with.
  void dequantize_all() const {
    for (int64_t row = 0; row < view_.rows; ++row) {
      for (int64_t column = 0; column < view_.columns; ++column) {
        values_.push_back(dequantize(*view_.format, view_, row, column));
      }
    }
  }

  std::vector<uint8_t> bytes(int64_t count) {
    std::vector<uint8_t> values(static_cast<size_t>(count));
    for (uint8_t& byte : values) byte = static_cast<uint8_t>(random_.below(256));
    return values;
  }

  void make_plain() {
    const WeightFormat& format = *view_.format;
    const int64_t size = format.bits / 8;
    codes_.resize(static_cast<size_t>(view_.rows * view_.columns * size));
    for (int64_t i = 0; i < view_.rows * view_.columns; ++i) {
      // Values that bfloat16 and float16 represent exactly, so that every arithmetic computes the same products.
      const float value = static_cast<float>(random_.below(201) - 100) / 64.0f;
      const uint32_t bits = format.code == CodeType::f32   ? float_bits(value)
                            : format.code == CodeType::f16 ? f16(value).bits
                                                           : bf16(value).bits;
      memcpy(codes_.data() + i * size, &bits, static_cast<size_t>(size));
    }
    view_.codes = dense_matrix(codes_.data(), plain_dtype(format), view_.rows, view_.columns);
  }

  // The bits of a scale of ordinary size.
  uint32_t scale_bits(ScaleType type) {
    const float value = 0.5f + static_cast<float>(random_.below(256)) / 256.0f;
    switch (type) {
      case ScaleType::f32: return float_bits(value);
      case ScaleType::f16: return f16(value).bits;
      case ScaleType::bf16: return bf16(value).bits;
      case ScaleType::e4m3: return static_cast<uint32_t>(48 + random_.below(24));
      case ScaleType::e8m0: return static_cast<uint32_t>(124 + random_.below(6));
      case ScaleType::u4: return static_cast<uint32_t>(random_.below(16));
      case ScaleType::u6: return static_cast<uint32_t>(random_.below(64));
      case ScaleType::i8:
      case ScaleType::odd4:
      case ScaleType::dynamic8: return static_cast<uint32_t>(random_.below(256));
    }
    return 0;
  }

  MatrixView make_level(const ScaleLevel& level, std::vector<uint8_t>& storage) {
    if (level.absent()) return {};
    const int64_t size = scale_bytes(level.type);
    const int64_t rows = (view_.rows + level.rows - 1) / level.rows;
    const int64_t columns = level.columns == 0 ? 1 : (view_.columns + level.columns - 1) / level.columns;
    storage.resize(static_cast<size_t>(rows * columns * size));
    for (int64_t i = 0; i < rows * columns; ++i) {
      const uint32_t bits = scale_bits(level.type);
      memcpy(storage.data() + i * size, &bits, static_cast<size_t>(size));
    }
    const DType dtype = level.type == ScaleType::f32    ? DType::f32
                        : level.type == ScaleType::f16  ? DType::f16
                        : level.type == ScaleType::bf16 ? DType::bf16
                                                        : DType::u8;
    return dense_matrix(storage.data(), dtype, rows, columns);
  }

  Random& random_;
  std::vector<uint8_t> codes_, scales_, super_scales_, zeros_, super_zeros_;
  WeightView view_;
  mutable std::vector<float> values_;
};

}  // namespace moe::test
