// Kernels::finishing.
#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "check.h"
#include "cpu/isa/isa.h"
#include "cpu/isa/kernels.h"
#include "random.h"

namespace {

using namespace moe;
using namespace moe::cpu;

// The first `outputs` values of each row of c, rounded to bfloat16 if they are stored so.
std::vector<float> stored_values(const Kernels& kernels, std::span<const float> c, int rows, int outputs,
                                 ResultStorage storage) {
  std::vector<float> values;
  for (int r = 0; r < rows; ++r) {
    for (int j = 0; j < outputs; ++j) values.push_back(c[r * kernels.panel_columns + j]);
  }
  if (storage != ResultStorage::bf16) return values;
  std::vector<bf16> rounded(values.size());
  const auto count = static_cast<int64_t>(values.size());
  kernels.from_f32(DType::bf16, values.data(), count, rounded.data());
  kernels.to_f32(DType::bf16, rounded.data(), count, values.data());
  return values;
}

void check_finishing(const Kernels& kernels, Activation activation, ResultStorage storage, bool scaled, bool biased) {
  constexpr int kRows = 5, kRowBytes = 192;
  const int columns = kernels.panel_columns, outputs = is_gated(activation) ? columns / 2 : columns;
  const Aside::Finish finish = kernels.finishing(activation, ActivationPart::whole, storage);
  // Activations without a gate are left to activate().
  MOE_CHECK_EQUAL(finish != nullptr, is_gated(activation) || activation == Activation::none);
  if (finish == nullptr) return;
  test::Random random(9);
  const Clamp clamp{1.5f, 0.5f, 0.75f, 0.25f};
  const std::vector<float> scales = random.values(kRows), sums = random.values(kRows * columns);
  alignas(64) float bias[kMostPanelColumns];
  const std::vector<float> bias_values = random.values(columns);
  std::ranges::copy(bias_values, bias);

  std::vector<float> c = sums;
  if (scaled) kernels.scale_rows(scales.data(), kRows, c.data());
  kernels.activate(activation, ActivationPart::whole, clamp, biased ? bias : nullptr, c.data(), kRows);
  const std::vector<float> expected = stored_values(kernels, c, kRows, outputs, storage);

  alignas(64) char target[kRows * kRowBytes];
  std::memset(target, 0x7f, sizeof target);
  c = sums;
  ResultRows rows;
  rows.rows = kRows;
  rows.finish = finish;
  rows.c = c.data();
  rows.scales = scaled ? scales.data() : nullptr;
  rows.bias = biased ? bias : nullptr;
  rows.clamp = &clamp;
  rows.target = target;
  rows.row_bytes = kRowBytes;
  for (const int most : {2, 1, 7, 1}) rows.finish_rows(most);
  kernels.end_streams();
  MOE_CHECK_EQUAL(rows.rows, 0);
  const DType dtype = storage == ResultStorage::bf16 ? DType::bf16 : DType::f32;
  const int64_t written = outputs * static_cast<int64_t>(info(dtype).bytes);
  for (int r = 0; r < kRows; ++r) {
    const char* row = target + r * kRowBytes;
    std::vector<float> values(static_cast<size_t>(outputs));
    kernels.to_f32(dtype, row, outputs, values.data());
    for (int j = 0; j < outputs; ++j) MOE_CHECK_EQUAL(values[j], expected[r * outputs + j]);
    for (int64_t byte = written; byte < kRowBytes; ++byte) MOE_CHECK_EQUAL(row[byte], char{0x7f});
  }
}

MOE_TEST(results_are_finished_as_by_a_function_for_each_step) {
  for (const Kernels* kernels : available_kernels()) {
    for_each_value<Activation>([&](Activation activation, std::string_view) {
      for (const ResultStorage storage : {ResultStorage::f32, ResultStorage::streamed_f32, ResultStorage::bf16}) {
        for (const bool scaled : {false, true}) {
          for (const bool biased : {false, true}) check_finishing(*kernels, activation, storage, scaled, biased);
        }
      }
    });
    MOE_CHECK(kernels->finishing(Activation::swiglu, ActivationPart::gate, ResultStorage::f32) == nullptr);
  }
}

}  // namespace
