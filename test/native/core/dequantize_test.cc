#include "core/formats/dequantize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "core/formats/find_format.h"

namespace {

using namespace moe;

MatrixView bytes(const uint8_t* data, int64_t rows, int64_t columns) {
  return dense_matrix(data, DType::u8, rows, columns);
}

}  // namespace

MOE_TEST(codes_of_any_number_of_bits_are_read_across_bytes) {
  // Codes 0, 1, 2, 3, ... of 3 bits in row 1: the lower column has the lower bits.
  const WeightFormat format{.name = "u3", .code = CodeType::unsigned_integer, .bits = 3};
  uint8_t data[2][3] = {};
  for (int column = 0; column < 8; ++column) {
    for (int bit = 0; bit < 3; ++bit) {
      if ((column >> bit & 1) != 0)
        data[1][(column * 3 + bit) / 8] |= static_cast<uint8_t>(1 << (column * 3 + bit) % 8);
    }
  }
  const WeightView weight{.format = &format, .rows = 2, .columns = 8, .codes = bytes(data[0], 2, 3)};
  for (int column = 0; column < 8; ++column) {
    MOE_CHECK_EQUAL(dequantize(format, weight, 0, column), 0.0f);
    MOE_CHECK_EQUAL(dequantize(format, weight, 1, column), static_cast<float>(column));
  }
}

MOE_TEST(signed_codes_and_small_floats_have_their_values) {
  const WeightFormat s4{.name = "s4", .code = CodeType::signed_integer, .bits = 4};
  MOE_CHECK_EQUAL(code_value(s4, 7), 7.0f);
  MOE_CHECK_EQUAL(code_value(s4, 8), -8.0f);
  MOE_CHECK_EQUAL(code_value(s4, 15), -1.0f);
  MOE_CHECK_EQUAL(from_e4m3(0x38), 1.0f);
  MOE_CHECK_EQUAL(from_e4m3(0x7e), 448.0f);
  MOE_CHECK_EQUAL(from_e4m3(0x81), -0x1p-9f);
  MOE_CHECK(std::isnan(from_e4m3(0xff)));
  MOE_CHECK_EQUAL(from_e8m0(127), 1.0f);
  MOE_CHECK_EQUAL(from_e8m0(0), 0x1p-127f);
  MOE_CHECK_EQUAL(from_e8m0(254), 0x1p127f);
  MOE_CHECK(std::isnan(from_e8m0(255)));
}

MOE_TEST(zero_points_come_before_scales_and_minima_after) {
  const uint8_t codes[2] = {0x53, 0x0f};
  const float scales[2] = {0.5f, 2.0f};
  const uint8_t zeros[2] = {1, 4};
  WeightFormat format{.name = "u4",
                      .code = CodeType::unsigned_integer,
                      .bits = 4,
                      .scales = {ScaleType::f32, 1, 2},
                      .offset = Offset::zero_point};
  WeightView weight{.format = &format,
                    .rows = 1,
                    .columns = 3,
                    .codes = bytes(codes, 1, 2),
                    .scales = dense_matrix(scales, DType::f32, 1, 2),
                    .zeros = bytes(zeros, 1, 2),
                    .scalar = 3.0f};
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 0), (3.0f - 1.0f) * 0.5f * 3.0f);
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 1), (5.0f - 1.0f) * 0.5f * 3.0f);
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 2), (15.0f - 4.0f) * 2.0f * 3.0f);

  // Two levels, as in the k-quants: the scale is 6 bits times an f16, and so is the minimum.
  const uint8_t small[2] = {3, 5}, minima[2] = {2, 7};
  const f16 super(0.25f), super_minimum(0.5f);
  format.offset = Offset::minimum;
  format.scales = {ScaleType::u6, 1, 2};
  format.super_scales = {ScaleType::f16, 1, 4};
  weight.scales = bytes(small, 1, 2);
  weight.zeros = bytes(minima, 1, 2);
  weight.super_scales = dense_matrix(&super, DType::f16, 1, 1);
  weight.super_zeros = dense_matrix(&super_minimum, DType::f16, 1, 1);
  weight.scalar = 1.0f;
  const float input_scale[3] = {1.0f, 1.0f, 10.0f};
  const int32_t input_order[3] = {2, 0, 1};
  weight.input_scale = input_scale;
  weight.input_order = input_order;
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 1), 5.0f * 3.0f * 0.25f - 2.0f * 0.5f);
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 2), (15.0f * 5.0f * 0.25f - 7.0f * 0.5f) * 10.0f);
  MOE_CHECK_EQUAL(input_of(weight, 2), int64_t{1});
}

MOE_TEST(nested_scales_are_scaled_and_then_offset) {
  const uint8_t codes[2] = {0x53, 0x0f}, nested[2] = {255, 126};
  const float super[1] = {0.5f}, offset[1] = {2.0f};
  const WeightFormat format{.name = "u4",
                            .code = CodeType::unsigned_integer,
                            .bits = 4,
                            .scales = {ScaleType::dynamic8, 1, 2},
                            .super_scales = {ScaleType::f32, 1, 4},
                            .offset = Offset::scale_offset};
  const WeightView weight{.format = &format,
                          .rows = 1,
                          .columns = 3,
                          .codes = bytes(codes, 1, 2),
                          .scales = bytes(nested, 1, 2),
                          .super_scales = dense_matrix(super, DType::f32, 1, 1),
                          .super_zeros = dense_matrix(offset, DType::f32, 1, 1),
                          .scalar = 3.0f};
  MOE_CHECK(fits_weight(weight));
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 1), 5.0f * (1.0f * 0.5f + 2.0f) * 3.0f);
  MOE_CHECK_EQUAL(dequantize(format, weight, 0, 2), 15.0f * (-0.55e-6f * 0.5f + 2.0f) * 3.0f);
}

// bitsandbytes, functional.py: create_dynamic_map(signed=True, max_exponent_bits=7, total_bits=8).
MOE_TEST(dynamic8_is_the_dynamic_map_of_bitsandbytes) {
  std::vector<double> map = {0.0, 1.0};
  for (int i = 0; i < 7; ++i) {
    const int parts = 1 << i;
    for (int part = 0; part < parts; ++part) {
      const double middle = 0.1 + 0.9 * (part + 0.5) / parts;
      for (const double sign : {1.0, -1.0}) map.push_back(sign * std::pow(10.0, i - 6) * middle);
    }
  }
  std::sort(map.begin(), map.end());
  MOE_CHECK_EQUAL(map.size(), size_t{256});
  for (uint32_t code = 0; code < 256; ++code) {
    MOE_CHECK_EQUAL(dynamic8_value(code), static_cast<float>(map[code]));
  }
}

MOE_TEST(plain_weights_are_their_codes) {
  const f16 values[2] = {f16(1.5f), f16(-2.0f)};
  const WeightView weight = plain_weight(dense_matrix(values, DType::f16, 2, 1));
  MOE_CHECK(elements_are_codes(weight));
  MOE_CHECK_EQUAL(dequantize(*weight.format, weight, 1, 0), -2.0f);
}

MOE_TEST(formats_are_found_by_their_names_and_exist_once) {
  for (const WeightFormat* a : sample_formats()) {
    MOE_CHECK(a != nullptr && find_format(std::string(a->name)) == a);
    for (const WeightFormat* b : sample_formats()) MOE_CHECK((a == b) == (std::string(a->name) == b->name));
  }
  const WeightFormat& format = *find_format("u4_g128_bf16");
  MOE_CHECK(format.code == CodeType::unsigned_integer && format.bits == 4 && format.offset == Offset::zero_point);
  MOE_CHECK(format.scales.type == ScaleType::bf16 && format.scales.rows == 1 && format.scales.columns == 128);
}

MOE_TEST(other_names_are_no_formats) {
  for (const char* name :
       {"", "_", "__", "f64", "i4", "i4_g32", "i7_g32_f32", "i9_g32_f32", "i4_g0_f32", "i4_g24_f32", "i4_g032_f32",
        "i4_g2048_f32", "i4_g99999999999_f32", "i4_g32_u6", "i4_g32_f32_", "x4_g32_f32"}) {
    MOE_CHECK(find_format(name) == nullptr);
  }
}
