// Products with quantised weights.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "core/formats/find_format.h"
#include "cpu/gemm/panels.h"
#include "cpu/isa/isa.h"
#include "cpu/operators.h"
#include "random_weight.h"

namespace {

using namespace moe;
using namespace moe::cpu;

class Problem {
 public:
  // The weight has the first `present` columns; those that it lacks are zeros.
  Problem(const Kernels& kernels, const WeightFormat& format, int64_t outputs, int64_t columns, DType tokens,
          int64_t rows, int64_t present)
      : context_(kernels, 2, true, warnings_),
        outputs_(outputs),
        columns_(columns),
        tokens_(tokens),
        weight_(random_, format, outputs, present),
        x_(random_.values(rows * columns)),
        stored_x_(static_cast<size_t>(rows * columns) * info(tokens).bytes) {
    kernels.from_f32(tokens, x_.data(), rows * columns, stored_x_.data());
    kernels.to_f32(tokens, stored_x_.data(), rows * columns, x_.data());
    const ExpertProduct product{.experts = 1, .rows = outputs, .columns = columns, .format = &format};
    MOE_CHECK(CpuPackedExperts::create(product, kernels, context_.team, true, &packed_).ok());
    MOE_CHECK(packed_->set_expert(0, weight_.view(), {}).ok());
  }
  Problem(const Kernels& kernels, const WeightFormat& format, int64_t outputs, int64_t columns, DType tokens,
          int64_t rows)
      : Problem(kernels, format, outputs, columns, tokens, rows, columns) {}

  // Results for `count` rows from `first` on.
  std::vector<float> results(int64_t first, int64_t count) {
    std::vector<float> y(static_cast<size_t>(count * outputs_), NAN);
    int32_t offsets[] = {0, static_cast<int32_t>(count)};
    char* x = stored_x_.data() + first * columns_ * static_cast<int64_t>(info(tokens_).bytes);
    MOE_CHECK(run(context_, GroupedGemm{.x = {x, tokens_, 2, {count, columns_}},
                                        .weight = packed_.get(),
                                        .bias = {},
                                        .offsets = {offsets, DType::i32, 1, {2}},
                                        .token_of_row = {},
                                        .y = {y.data(), DType::f32, 2, {count, outputs_}}})
                  .ok());
    return y;
  }

  void set_x(int64_t row, int64_t column, float value) {
    MOE_CHECK(tokens_ == DType::f32);
    std::memcpy(stored_x_.data() + (row * columns_ + column) * int64_t{sizeof(float)}, &value, sizeof value);
  }
  double weight(int64_t output, int64_t column) const { return weight_.at(output, column); }

  // The largest error of the results for the first rows, in parts of the largest result.
  double error(int64_t count) {
    const std::vector<float> y = results(0, count);
    double largest = 0, worst = 0;
    for (int64_t output = 0; output < outputs_; ++output) {
      std::vector<double> weights(static_cast<size_t>(columns_));
      for (int64_t k = 0; k < weight_.view().columns; ++k) weights[k] = weight_.at(output, k);
      for (int64_t row = 0; row < count; ++row) {
        double expected = 0;
        for (int64_t k = 0; k < columns_; ++k) expected += weights[k] * static_cast<double>(x_[row * columns_ + k]);
        largest = std::max(largest, std::fabs(expected));
        worst = std::max(worst, std::fabs(expected - static_cast<double>(y[row * outputs_ + output])));
      }
    }
    return largest == 0 ? worst : worst / largest;
  }

 private:
  test::Random random_{17};
  Warnings warnings_;
  Context context_;
  int64_t outputs_, columns_;
  DType tokens_;
  test::RandomWeight weight_;
  std::vector<float> x_;
  std::vector<char> stored_x_;
  std::unique_ptr<CpuPackedExperts> packed_;
};

int64_t source_bytes(const WeightView& weight, const Kernels& kernels) {
  // Instruction sets that do not look up points of grids have a code for each column instead.
  const bool expands = !weight.format->grid.absent() && kernels.expand_grids == nullptr;
  int64_t bytes = weight.rows * (expands ? weight.columns * weight.format->bits / 8 : weight.codes.columns);
  for (const MatrixView& values : {weight.scales, weight.super_scales, weight.zeros, weight.super_zeros}) {
    bytes += values.rows * values.columns * static_cast<int64_t>(info(values.dtype).bytes);
  }
  return bytes;
}

std::vector<const WeightFormat*> quantised_formats() {
  std::vector<const WeightFormat*> formats = sample_formats();
  std::erase_if(formats, [](const WeightFormat* format) { return format->plain(); });
  return formats;
}

}  // namespace

MOE_TEST(quantised_weights_multiply_as_if_dequantised) {
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : quantised_formats()) {
      for (const DType tokens : {DType::f32, DType::f16, DType::bf16}) {
        for (const int64_t columns : {1, 16, 31, 290, 2880}) {
          Problem problem(*kernels, *format, 35, columns, tokens, 3);
          const double error = problem.error(3);
          if (!(error < 1e-5)) MOE_CHECK_EQUAL(std::string(kernels->name) + " " + format->name, std::to_string(error));
        }
      }
    }
  }
}

MOE_TEST(quantised_weights_with_several_blocks_of_k) {
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : quantised_formats()) {
      Problem problem(*kernels, *format, 3, 8192 + 70, DType::bf16, 2);
      MOE_CHECK(problem.error(2) < 1e-5);
    }
  }
}

MOE_TEST(an_infinity_is_multiplied_and_nan_stays_in_its_row) {
  constexpr int64_t kOutputs = 35, kColumns = 160;
  for (const Kernels* kernels : available_kernels()) {
    for (const char* format : {"i4_channel_f32", "i8_g32_f16", "i8_channel_bf16", "i6_g64_f16", "mxfp4"}) {
      Problem problem(*kernels, *find_format(format), kOutputs, kColumns, DType::f32, 3);
      const std::vector<float> finite = problem.results(2, 1);
      problem.set_x(0, 70, -INFINITY);
      problem.set_x(1, 3, NAN);
      const std::vector<float> y = problem.results(0, 3);
      for (int64_t output = 0; output < kOutputs; ++output) {
        const double weight = problem.weight(output, 70);
        MOE_CHECK(weight == 0 ? std::isnan(y[output]) : y[output] == (weight < 0 ? INFINITY : -INFINITY));
        MOE_CHECK(std::isnan(y[kOutputs + output]));
        MOE_CHECK_EQUAL(y[2 * kOutputs + output], finite[output]);
      }
    }
  }
}

MOE_TEST(columns_that_a_quantised_weight_lacks_are_zeros) {
  for (const Kernels* kernels : available_kernels()) {
    for (const char* format : {"nf4_nested", "fp4_nested", "nf4_g64_f32", "u4_g32_bf16", "q4_k", "mxfp4"}) {
      Problem problem(*kernels, *find_format(format), 35, 400, DType::f32, 3, 64);
      MOE_CHECK(problem.error(3) < 1e-5);
    }
  }
}

MOE_TEST(rows_of_quantised_products_do_not_depend_on_others) {
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : quantised_formats()) {
      for (const DType tokens : {DType::f32, DType::bf16}) {
        Problem problem(*kernels, *format, 37, 304, tokens, 20);
        const std::vector<float> all = problem.results(0, 20);
        for (int64_t count = 1; count < 20; ++count) {
          const std::vector<float> some = problem.results(20 - count, count);
          MOE_CHECK(std::memcmp(some.data(), all.data() + (20 - count) * 37, some.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

MOE_TEST(quantised_weights_are_packed_in_hardly_more_bytes) {
  test::Random random(9);
  const Team team{ThreadPool::shared(), 2};
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : quantised_formats()) {
      const test::RandomWeight weight(random, *format, 256, 2048);
      std::unique_ptr<CpuPackedExperts> packed;
      const ExpertProduct product{.experts = 1, .rows = 256, .columns = 2048, .format = format};
      MOE_CHECK(CpuPackedExperts::create(product, *kernels, team, true, &packed).ok());
      const double source = static_cast<double>(source_bytes(weight.view(), *kernels));
      if (static_cast<double>(packed->bytes()) > 1.05 * source) MOE_CHECK_EQUAL(format->name, "in fewer bytes");
    }
  }
}

namespace {

// What setting a changed random weight [3, columns] of a format says, in a matrix of 64 columns.
template <class Change>
Status set_changed(const char* format, int64_t columns, Change&& change) {
  test::Random random(4);
  const Team team{ThreadPool::shared(), 2};
  const test::RandomWeight weight(random, *find_format(format), 3, columns);
  std::unique_ptr<CpuPackedExperts> packed;
  const ExpertProduct product{.experts = 1, .rows = 3, .columns = 64, .format = find_format(format)};
  MOE_CHECK(CpuPackedExperts::create(product, *available_kernels().front(), team, true, &packed).ok());
  WeightView view = weight.view();
  change(view);
  return packed->set_expert(0, view, {});
}

uint8_t& byte_of(const MatrixView& matrix, int64_t row, int64_t column) {
  return static_cast<uint8_t*>(const_cast<void*>(matrix.data))[row * matrix.row_stride + column];
}

}  // namespace

MOE_TEST(nan_among_codes_and_scales_is_refused) {
  MOE_CHECK_EQUAL(set_changed("e4m3_g32_e8m0", 64, [](WeightView& view) { byte_of(view.codes, 2, 7) = 0xff; }).message,
                  "setExpert: a weight of e4m3_g32_e8m0: expected codes that are numbers, got NaN in row 2, column 7");
  MOE_CHECK_EQUAL(set_changed("mxfp4", 64, [](WeightView& view) { byte_of(view.scales, 1, 1) = 0xff; }).message,
                  "setExpert: a weight of mxfp4: expected scales that are numbers, got NaN in row 1, group 1");
  MOE_CHECK_EQUAL(set_changed("nvfp4", 64, [](WeightView& view) { byte_of(view.scales, 0, 3) = 0x7f; }).message,
                  "setExpert: a weight of nvfp4: expected scales that are numbers, got NaN in row 0, group 3");
}

MOE_TEST(what_scales_cannot_express_is_refused) {
  const auto scale = [](WeightView& view) { view.scalar = 2.0f; };
  const auto nothing = [](WeightView&) {};
  MOE_CHECK(set_changed("nvfp4", 64, scale).ok() && set_changed("i8_channel_f32", 64, scale).ok());
  MOE_CHECK(set_changed("i4_g32_bf16", 64, scale).code == Code::unsupported_operation);
  // Missing columns must be zeros.
  MOE_CHECK(set_changed("u4_g32_bf16", 32, nothing).ok() && set_changed("i4_g32_bf16", 40, nothing).ok());
  MOE_CHECK(set_changed("u4_g32_bf16", 40, nothing).code == Code::unsupported_operation);
}

MOE_TEST(the_scalar_multiplies_quantised_weights) {
  test::Random random(8);
  const Team team{ThreadPool::shared(), 1};
  const Kernels& kernels = *available_kernels().front();
  for (const char* format : {"nvfp4", "u4_g16_f32", "nf4_nested"}) {
    const ExpertProduct product{.experts = 2, .rows = 3, .columns = 64, .format = find_format(format)};
    const test::RandomWeight weight(random, *product.format, 3, 64);
    std::unique_ptr<CpuPackedExperts> packed;
    MOE_CHECK(CpuPackedExperts::create(product, kernels, team, true, &packed).ok());
    WeightView twice = weight.view();
    twice.scalar = 2.0f;
    MOE_CHECK(packed->set_expert(0, weight.view(), {}).ok() && packed->set_expert(1, twice, {}).ok());
    const PanelScales& scales = packed->layout().scales;
    for (const PanelLevel& level :
         {scales.super_scales.absent() ? scales.scales : scales.super_scales, scales.super_zeros}) {
      if (level.absent()) continue;
      float once[2], doubled[2];
      std::memcpy(once, packed->data() + level.at, sizeof once);
      std::memcpy(doubled, packed->data() + packed->layout().expert_bytes() + level.at, sizeof doubled);
      MOE_CHECK(doubled[0] == 2.0f * once[0] && doubled[1] == 2.0f * once[1] && once[0] != 0.0f);
    }
  }
}
