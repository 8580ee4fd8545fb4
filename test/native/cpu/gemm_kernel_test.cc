#include "cpu/gemm/gemm_kernel.h"

#include <set>
#include <string>

#include "check.h"
#include "core/formats/find_format.h"
#include "cpu/isa/isa.h"

namespace {

using namespace moe;
using namespace moe::cpu;

constexpr GemmKernel kRows[] = {
    {.name = "pairs", .tokens = tokens_of(DType::bf16), .takes = takes_code<CodeType::bf16>},
    {.name = "exact", .tokens = kAllTokens, .takes = takes_code<CodeType::bf16>},
    {.name = "half", .tokens = tokens_of(DType::f16), .takes = takes_code<CodeType::f16>},
    {.name = "integers", .codes = TokenFormat::int8, .takes = takes_integers<4>},
    {.name = "floats", .tokens = kAllTokens, .takes = takes_integers<4>},
};
constexpr WeightFormat kIntegers{.name = "i4", .code = CodeType::signed_integer, .bits = 4};
static_assert(choose_gemm(kRows, DType::bf16, kBF16Format) == &kRows[0]);
static_assert(choose_gemm(kRows, DType::f32, kBF16Format) == &kRows[1]);
static_assert(choose_gemm(kRows, DType::f32, kF16Format) == nullptr);
static_assert(choose_gemm(kRows, {DType::bf16, TokenFormat::int8}, kIntegers) == &kRows[3]);
static_assert(choose_gemm(kRows, {DType::bf16, TokenFormat::fp8}, kIntegers) == &kRows[4]);
static_assert(choose_gemm(kRows, DType::bf16, kIntegers) == &kRows[4]);
static_assert(choose_gemm(kRows, {DType::bf16, TokenFormat::int8}, kBF16Format) == &kRows[0]);
static_assert(choose_gemm(kRows, DType::f32, kF32Format) == nullptr);

}  // namespace

MOE_TEST(every_instruction_set_has_a_row_for_all_tokens_and_formats_in_one_layout_of_a_format) {
  for (const Kernels* kernels : all_kernels()) {
    for (const WeightFormat* format : sample_formats()) {
      const GemmKernel* first = choose_gemm(kernels->gemm, DType::f32, *format);
      MOE_CHECK(first != nullptr);
      for (const RowKind x : {RowKind(DType::f32), RowKind(DType::f16), RowKind(DType::bf16),
                              RowKind(DType::bf16, TokenFormat::int8), RowKind(DType::bf16, TokenFormat::fp8)}) {
        const GemmKernel* row = choose_gemm(kernels->gemm, x, *format);
        MOE_CHECK(row != nullptr && row->panels == first->panels);
        MOE_CHECK(row->max_rows >= 1 && row->max_rows <= kMaxTileRows && row->tile[row->max_rows] != nullptr);
        const int group = k_group(row->arithmetic);
        MOE_CHECK(row->unpacked.unpack != nullptr || row->panels(*format).step % group == 0);
      }
    }
  }
}

MOE_TEST(integers_of_8_bits_times_integers_are_products_of_integers) {
  for (const Kernels* kernels : all_kernels()) {
    for (const WeightFormat* format : sample_formats()) {
      const bool integers = format->code == CodeType::signed_integer || format->code == CodeType::unsigned_integer ||
                            table_unit(*format) != 0;
      const GemmKernel* row = choose_gemm(kernels->gemm, {DType::bf16, TokenFormat::int8}, *format);
      // The tests' own format has a row of its own.
      if (row->arithmetic == Arithmetic::f32 && row->panels != coded_panels) continue;
      MOE_CHECK_EQUAL(is_bytes(row->arithmetic), integers);
    }
  }
}

MOE_TEST(kernels_are_described_each_once_and_the_chosen_ones_are_of_one_instruction_set) {
  std::set<std::string> names, layouts, needs;
  for (const KernelDescription& kernel : describe_kernels({})) {
    MOE_CHECK(names.insert(kernel.name).second);
    if (!kernel.chosen.empty()) needs.insert(kernel.needs);
  }
  MOE_CHECK_EQUAL(needs.size(), size_t{1});
}

MOE_TEST(every_kernel_has_a_peak_that_can_be_measured) {
  for (const Kernels* kernels : all_kernels()) {
    for (const GemmKernel& row : kernels->gemm) {
      const Peak peak = peak_of(row.arithmetic);
      const PeakLoop& loop = peak == Peak::fma    ? kernels->f32_peak
                             : peak == Peak::bf16 ? kernels->bf16_peak
                                                  : kernels->int8_peak;
      MOE_CHECK(loop.run != nullptr && loop.flops_per_iteration > 0);
      MOE_CHECK(parts_of(row.arithmetic) == 1 || peak != Peak::fma);
    }
  }
  for (const Kernels* kernels : available_kernels()) {
    for (const PeakLoop& loop : {kernels->f32_peak, kernels->bf16_peak, kernels->int8_peak}) {
      if (loop.run != nullptr) loop.run(3);
    }
  }
}
