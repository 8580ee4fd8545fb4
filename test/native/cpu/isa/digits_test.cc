// Rows of x as digits; see isa/template/digits.h.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "cpu/gemm/product.h"
#include "cpu/isa/isa.h"
#include "random.h"

namespace {

using namespace moe;
using namespace moe::cpu;

struct Digits {
  std::vector<double> numbers;
  float unit;
};

// The middle one of three packed rows, as numbers in its unit.
Digits packed(const Kernels& kernels, DType dtype, const void* row, int64_t k) {
  constexpr int kRows = 3, kRow = 1;
  const int64_t padded_k = round_up(k, 16);
  std::vector<char> tile(static_cast<size_t>(kRows * (padded_k * kDigits + int64_t{sizeof(float)})), 0x55);
  kernels.pack_row(Arithmetic::i8_digits, dtype, row, k, padded_k, tile.data(), kRow, kRows);
  Digits result;
  std::memcpy(&result.unit, tile.data() + kRows * padded_k * kDigits + kRow * sizeof(float), sizeof(float));
  constexpr int kPlaces[] = {0, 2, 1, 3};
  for (int64_t i = 0; i < padded_k; ++i) {
    const char* quad = tile.data() + (i / 4 * kRows + kRow) * kDigits * 4;
    const auto digit = [&](int at) { return static_cast<double>(static_cast<int8_t>(quad[4 * at + kPlaces[i % 4]])); };
    result.numbers.push_back(digit(0) + digit(1) / 256 + digit(2) / 65536);
  }
  for (int64_t i = k; i < padded_k; ++i) MOE_CHECK_EQUAL(result.numbers[i], 0.0);
  return result;
}

Digits packed(const Kernels& kernels, const std::vector<float>& row) {
  return packed(kernels, DType::f32, row.data(), std::ssize(row));
}

// The largest error of a packed row, in parts of its largest number.
double error(const Digits& digits, const std::vector<float>& row) {
  double largest = 0, worst = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(row[i])));
    worst = std::max(worst, std::fabs(digits.numbers[i] * digits.unit - row[i]));
  }
  return worst / largest;
}

}  // namespace

MOE_TEST(digits_of_a_row_are_as_exact_as_its_largest_number) {
  test::Random random(5);
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t k : {1, 5, 16, 700}) {
      for (const float scale : {0x1p-119f, 1e-20f, 0.3f, 1.0f, 127.49f / 128, 127.5f / 128, 1e20f, FLT_MAX}) {
        std::vector<float> row = random.values(k);
        // All fractions of the largest number, down to the smallest.
        for (int64_t i = 1; i < k; ++i) row[i] *= std::ldexp(scale, -static_cast<int>(random.below(20)));
        row[0] = k % 2 == 0 ? scale : -scale;
        MOE_CHECK(error(packed(*kernels, row), row) <= 1.2e-7);
      }
    }
  }
}

MOE_TEST(digits_of_numbers_of_few_bits_are_exact) {
  test::Random random(6);
  for (const Kernels* kernels : available_kernels()) {
    std::vector<float> row = random.values(333);
    // Numbers of bfloat16 that are at most 2^14 times smaller than the largest.
    for (float& x : row) x = static_cast<float>(bf16(std::copysign(std::max(std::fabs(x), 0x1p-14f), x)));
    row[7] = 1.0f;
    MOE_CHECK_EQUAL(error(packed(*kernels, row), row), 0.0);
    std::vector<bf16> halves(row.size());
    kernels->from_f32(DType::bf16, row.data(), std::ssize(row), halves.data());
    MOE_CHECK_EQUAL(error(packed(*kernels, DType::bf16, halves.data(), std::ssize(row)), row), 0.0);
  }
}

MOE_TEST(digits_of_rows_without_a_largest_number) {
  const float infinity = INFINITY;
  for (const Kernels* kernels : available_kernels()) {
    const std::vector<float> zeros(20, 0.0f);
    const Digits of_zeros = packed(*kernels, zeros);
    MOE_CHECK(std::isfinite(of_zeros.unit) && of_zeros.numbers == std::vector<double>(32, 0.0));

    // Below what units can be, numbers lose digits.
    const std::vector<float> tiny(20, FLT_TRUE_MIN);
    MOE_CHECK(error(packed(*kernels, tiny), tiny) <= 1);

    std::vector<float> row(20, 3.0f);
    row[4] = -infinity;
    const Digits of_infinity = packed(*kernels, row);
    MOE_CHECK_EQUAL(of_infinity.unit, infinity);
    for (int i = 0; i < 32; ++i) MOE_CHECK_EQUAL(of_infinity.numbers[i], i == 4 ? -1.0 : 0.0);

    row[19] = infinity;
    MOE_CHECK(std::isnan(packed(*kernels, row).unit));
    row[4] = NAN;
    MOE_CHECK(std::isnan(packed(*kernels, row).unit));
  }
}
