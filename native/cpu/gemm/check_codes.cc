#include "cpu/gemm/check_codes.h"

#include <atomic>
#include <string>

namespace moe::cpu {

namespace {

// A set of bytes: those with these bits, whatever the sign if it is ignored.
struct BytePattern {
  uint8_t mask, bits;
};
constexpr BytePattern kE4M3NaN{.mask = 0x7f, .bits = 0x7f};
constexpr BytePattern kE8M0NaN{.mask = 0xff, .bits = 0xff};

// The first of these bytes in a matrix, as row * columns + column; -1: there is none.
int64_t find_byte(const Team& team, const MatrixView& matrix, BytePattern pattern) {
  constexpr int64_t kRowsAtOnce = 16;
  const auto row_of = [&](int64_t row) { return static_cast<const uint8_t*>(matrix.data) + row * matrix.row_stride; };
  std::atomic<int64_t> first{matrix.rows};
  team.for_range(matrix.rows, kRowsAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* bytes = row_of(row);
      uint8_t found = 0;
      for (int64_t i = 0; i < matrix.columns; ++i) found |= (bytes[i] & pattern.mask) == pattern.bits;
      if (found == 0) continue;
      for (int64_t seen = first; row < seen && !first.compare_exchange_weak(seen, row);) {
      }
      return;
    }
  });
  if (first == matrix.rows) return -1;
  const uint8_t* bytes = row_of(first);
  int64_t column = 0;
  while ((bytes[column] & pattern.mask) != pattern.bits) ++column;
  return first * matrix.columns + column;
}

Status check_bytes(const Team& team, const WeightFormat& format, const MatrixView& matrix, BytePattern pattern,
                   const char* what, const char* where) {
  const int64_t found = matrix.absent() ? -1 : find_byte(team, matrix, pattern);
  if (found < 0) return {};
  return {Code::invalid_argument, std::string("setExpert: a weight of ") + format.name + ": expected " + what +
                                      " that are numbers, got NaN in row " + std::to_string(found / matrix.columns) +
                                      ", " + where + " " + std::to_string(found % matrix.columns)};
}

Status check_level(const Team& team, const WeightFormat& format, const ScaleLevel& level, const MatrixView& values) {
  if (level.absent()) return {};
  if (level.type == ScaleType::e8m0) return check_bytes(team, format, values, kE8M0NaN, "scales", "group");
  if (level.type == ScaleType::e4m3) return check_bytes(team, format, values, kE4M3NaN, "scales", "group");
  return {};
}

}  // namespace

Status check_codes(const Team& team, const WeightView& weight, int64_t columns) {
  const WeightFormat& format = *weight.format;
  const auto takes_scalar = [](const ScaleLevel& level) { return !level.absent() && level.type == ScaleType::f32; };
  if (weight.scalar != 1.0f && !takes_scalar(format.scales) && !takes_scalar(format.super_scales)) {
    return {Code::unsupported_operation, std::string("setExpert: cpu has no kernel for a weight of ") + format.name +
                                             " with a scalar, as none of its scales are float32; store it in a plain "
                                             "format"};
  }
  // Missing columns have codes of zero bits, or scales or codes of zero if their whole group is missing.
  const bool zero_is_zero =
      format.offset == Offset::none && (format.code == CodeType::signed_integer || format.code == CodeType::e4m3 ||
                                        (format.code == CodeType::table && format.table[0] == 0.0f));
  const bool whole_groups = format.scales.columns != 0 && weight.columns % format.scales.columns == 0;
  if (weight.columns != columns && !zero_is_zero && !whole_groups) {
    return {Code::unsupported_operation, std::string("setExpert: a weight of ") + format.name + ": expected " +
                                             std::to_string(columns) + " columns or whole groups, got " +
                                             std::to_string(weight.columns)};
  }
  if (format.code == CodeType::e4m3) {
    MOE_TRY(check_bytes(team, format, weight.codes, kE4M3NaN, "codes", "column"));
  }
  MOE_TRY(check_level(team, format, format.scales, weight.scales));
  MOE_TRY(check_level(team, format, format.super_scales, weight.super_scales));
  if (format.offset != Offset::minimum) return {};
  MOE_TRY(check_level(team, format, format.scales, weight.zeros));
  return check_level(team, format, format.super_scales, weight.super_zeros);
}

}  // namespace moe::cpu
