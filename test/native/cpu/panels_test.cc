#include "cpu/gemm/panels.h"

#include "check.h"
#include "core/formats/find_format.h"
#include "cpu/isa/isa.h"
#include "random.h"
#include "random_weight.h"

namespace {

using namespace moe;
using namespace moe::cpu;

// An element's position, straight from the description of PanelLayout.
float element(const CpuPackedExperts& packed, int64_t expert, int64_t panel, int64_t column, int64_t k) {
  const PanelLayout& layout = packed.layout();
  const int64_t group = layout.group;
  const char* base = packed.data() + expert * layout.expert_bytes() + panel * layout.panel_bytes;
  const int64_t index = (k / group * layout.panel_columns + column) * group + k % group;
  switch (plain_dtype(*packed.weights().format)) {
    case DType::f16: return static_cast<float>(reinterpret_cast<const f16*>(base)[index]);
    case DType::bf16: return static_cast<float>(reinterpret_cast<const bf16*>(base)[index]);
    default: return reinterpret_cast<const float*>(base)[index];
  }
}

// Integers, which every dtype represents exactly.
std::vector<float> small_integers(test::Random& random, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.below(200) - 100);
  return values;
}

// A matrix [outputs, k] as it is, or the same stored input by input in `transposed`.
MatrixView matrix(const std::vector<float>& values, int64_t outputs, int64_t k, bool by_inputs,
                  std::vector<float>& transposed) {
  if (!by_inputs) return dense_matrix(values.data(), DType::f32, outputs, k);
  transposed.resize(values.size());
  for (int64_t i = 0; i < outputs * k; ++i) transposed[i % k * outputs + i / k] = values[i];
  MatrixView view = dense_matrix(transposed.data(), DType::f32, outputs, k);
  view.row_stride = 1;
  view.column_stride = outputs;
  return view;
}

void check_packing(const Kernels& kernels, DType dtype, Activation activation, int64_t outputs, int64_t k,
                   bool by_inputs) {
  test::Random random(3);
  const Team team{ThreadPool::shared(), 2};
  const bool gated = is_gated(activation);
  const ExpertProduct weights{.experts = 2,
                              .rows = gated ? 2 * outputs : outputs,
                              .columns = k,
                              .format = &plain_format(dtype),
                              .activation = activation};
  std::unique_ptr<CpuPackedExperts> packed;
  MOE_CHECK(CpuPackedExperts::create(weights, kernels, team, true, &packed).ok());
  for (int64_t expert = 0; expert < 2; ++expert) {
    std::vector<float> first = small_integers(random, outputs * k), up = small_integers(random, outputs * k);
    std::vector<float> first_transposed, up_transposed;
    const MatrixView first_view = matrix(first, outputs, k, by_inputs, first_transposed);
    const MatrixView up_view = gated ? matrix(up, outputs, k, by_inputs, up_transposed) : MatrixView{};
    MOE_CHECK(packed->set_expert(expert, plain_weight(first_view), plain_weight(up_view)).ok());
    const PanelLayout& layout = packed->layout();
    const int64_t half = kernels.panel_columns / (gated ? 2 : 1);
    bool right = layout.panels == (outputs + half - 1) / half;
    for (int64_t panel = 0; panel < layout.panels; ++panel) {
      for (int64_t column = 0; column < layout.panel_columns; ++column) {
        const int64_t output = panel * half + column % half;
        const std::vector<float>& source = column < half ? first : up;
        for (int64_t i = 0; i < layout.padded_k; ++i) {
          const float expected = output < outputs && i < k ? source[output * k + i] : 0.0f;
          right = right && element(*packed, expert, panel, column, i) == expected;
        }
      }
    }
    MOE_CHECK(right);
  }
}

}  // namespace

MOE_TEST(panels_hold_every_weight_where_the_layout_says_and_zeros_elsewhere) {
  for (const Kernels* kernels : available_kernels()) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (const Activation activation : {Activation::none, Activation::swiglu}) {
        for (const bool by_inputs : {false, true}) {
          check_packing(*kernels, dtype, activation, 1, 1, by_inputs);
          check_packing(*kernels, dtype, activation, 37, 301, by_inputs);
          check_packing(*kernels, dtype, activation, 64, 64, by_inputs);
          check_packing(*kernels, dtype, activation, 21, 2100, by_inputs);
        }
      }
    }
  }
}

MOE_TEST(weights_of_the_stored_dtype_are_moved_bit_by_bit) {
  // A signalling NaN, which any conversion would make quiet.
  const uint16_t nan = 0x7f81;
  std::vector<uint16_t> values(6, nan);
  const Kernels& kernels = *available_kernels().front();
  const Team team{ThreadPool::shared(), 1};
  std::unique_ptr<CpuPackedExperts> packed;
  const ExpertProduct weights{.experts = 1, .rows = 2, .columns = 3, .format = &kBF16Format};
  MOE_CHECK(CpuPackedExperts::create(weights, kernels, team, true, &packed).ok());
  // Stored input by input, so that it is read through strides.
  const WeightView view = plain_weight(
      {.data = values.data(), .dtype = DType::bf16, .rows = 2, .columns = 3, .row_stride = 1, .column_stride = 2});
  MOE_CHECK(packed->set_expert(0, view, {}).ok());
  uint16_t first = 0;
  memcpy(&first, packed->data(), sizeof first);
  MOE_CHECK_EQUAL(first, nan);
}

MOE_TEST(floats_sum_what_has_one_scale_in_whole_numbers_of_four_sums) {
  const auto sum = [](const char* format, int64_t k) { return PanelScales(*find_format(format), 32, k).sum; };
  for (const int64_t k : {512, 1536, 4096}) {
    MOE_CHECK_EQUAL(sum("nvfp4", k), 16);
    MOE_CHECK_EQUAL(sum("q6_k", k), 16);
    MOE_CHECK_EQUAL(sum("q4_k", k), 32);
    MOE_CHECK_EQUAL(sum("i4_g32_f16", k), 32);
    MOE_CHECK_EQUAL(sum("i4_g64_bf16", k), 64);
    MOE_CHECK_EQUAL(sum("u4_g128_f16", k), 128);
    MOE_CHECK_EQUAL(sum("e4m3_b128_f32", k), 128);
    MOE_CHECK_EQUAL(sum("e4m3_g256_f32", k), 128);
    MOE_CHECK_EQUAL(sum("i8_channel_f32", k), 128);
  }
  MOE_CHECK_EQUAL(sum("i8_channel_f32", 768), 64);
  MOE_CHECK_EQUAL(sum("i8_channel_f32", 704), 32);
  MOE_CHECK_EQUAL(sum("e4m3_b128_f32", 2880), 32);
  const PanelScales scales(*find_format("e4m3_g256_f32"), 32, 1024);
  MOE_CHECK_EQUAL(scales.sums_in(1024), int64_t{8});
  MOE_CHECK_EQUAL(scales.of_sums.scales.segments, int64_t{2});
}

MOE_TEST(weights_of_any_format_can_be_packed_as_plain_ones_in_the_order_of_their_inputs) {
  test::Random random(5);
  const Team team{ThreadPool::shared(), 2};
  const std::vector<int32_t> order = {4, 2, 0, 1, 3};
  const std::vector<float> input_scale = {1, 2, 0.5f, 4, 8};
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : sample_formats()) {
      const test::RandomWeight weight(random, *format, 3, 5);
      WeightView view = weight.view();
      view.input_order = order.data();
      view.input_scale = input_scale.data();
      std::unique_ptr<CpuPackedExperts> packed;
      const ExpertProduct product{.experts = 1, .rows = 3, .columns = 5};
      MOE_CHECK(CpuPackedExperts::create(product, *kernels, team, true, &packed).ok());
      MOE_CHECK(packed->set_expert(0, view, {}).ok());
      for (int64_t row = 0; row < 3; ++row) {
        for (int64_t column = 0; column < 5; ++column) {
          MOE_CHECK_EQUAL(element(*packed, 0, 0, row, order[column]), weight.at(row, column) * input_scale[column]);
        }
      }
    }
  }
}

MOE_TEST(quantised_weights_take_no_others_and_orders_of_inputs_are_checked) {
  test::Random random(6);
  const Team team{ThreadPool::shared(), 1};
  const Kernels& kernels = *available_kernels().front();
  const test::RandomWeight plain(random, kF32Format, 1, 2), codes(random, kTestU4G16Format, 1, 2);
  std::unique_ptr<CpuPackedExperts> packed;
  const ExpertProduct product{.experts = 1, .rows = 1, .columns = 2, .format = &kTestU4G16Format};
  MOE_CHECK(CpuPackedExperts::create(product, kernels, team, true, &packed).ok());
  MOE_CHECK_EQUAL(packed->set_expert(0, plain.view(), {}).message,
                  "setExpert: expected a weight in test_u4_g16, in which the layer stores it, got f32");
  const std::vector<int32_t> order = {0, 2};
  WeightView view = codes.view();
  view.input_order = order.data();
  const auto refused = [&](const std::string& message) {
    MOE_CHECK_EQUAL(packed->set_expert(0, view, {}).message, "setExpert: inputOrder[1]: expected " + message);
  };
  refused("from 0 to 1, got 2");
  MOE_CHECK(packed->inputs().absent());
  MOE_CHECK(CpuPackedExperts::create({.experts = 1, .rows = 1, .columns = 2}, kernels, team, true, &packed).ok());
  refused("from 0 to 1, got 2");
  const std::vector<int32_t> twice = {1, 1};
  view.input_order = twice.data();
  refused("every input once, got 1");
}

MOE_TEST(quantised_weights_keep_what_they_do_to_their_inputs) {
  test::Random random(7);
  const Team team{ThreadPool::shared(), 1};
  const Kernels& kernels = *available_kernels().front();
  const test::RandomWeight codes(random, kTestU4G16Format, 1, 3);
  std::unique_ptr<CpuPackedExperts> packed;
  const ExpertProduct product{.experts = 3, .rows = 1, .columns = 3, .format = &kTestU4G16Format};
  MOE_CHECK(CpuPackedExperts::create(product, kernels, team, true, &packed).ok());
  MOE_CHECK(packed->set_expert(0, codes.view(), {}).ok());
  const size_t bytes = packed->bytes();
  MOE_CHECK(packed->inputs().absent() && packed->inputs().as_read(DType::bf16) == DType::bf16);
  const std::vector<int32_t> order = {2, 0, 1};
  const std::vector<float> scale = {2, 4, 8};
  WeightView reordered = codes.view(), scaled = codes.view();
  reordered.input_order = order.data();
  scaled.input_scale = scale.data();
  MOE_CHECK(packed->set_expert(1, reordered, {}).ok());
  MOE_CHECK(packed->inputs().as_read(DType::bf16) == DType::bf16);
  MOE_CHECK(packed->set_expert(2, scaled, {}).ok());
  MOE_CHECK(packed->inputs().as_read(DType::bf16) == DType::f32);
  MOE_CHECK_EQUAL(packed->bytes() - bytes, 2u * 64);
  const auto applied = [&](int64_t expert) {
    const std::vector<float> x = {10, 20, 30};
    std::vector<float> values(3);
    packed->inputs().apply(expert, x.data(), values.data());
    return values;
  };
  MOE_CHECK(applied(0) == std::vector<float>({10, 20, 30}));
  MOE_CHECK(applied(1) == std::vector<float>({30, 10, 20}));
  MOE_CHECK(applied(2) == std::vector<float>({20, 80, 240}));
}
