// Products with weights whose panels are packed while they are multiplied.
#include <cmath>
#include <memory>
#include <vector>

#include "check.h"
#include "core/formats/named.h"
#include "cpu/gemm/panels.h"
#include "cpu/isa/isa.h"
#include "cpu/operators.h"
#include "random_weight.h"

namespace {

using namespace moe;
using namespace moe::cpu;

constexpr int64_t kExperts = 3;
const WeightFormat* const kFormats[] = {&kF32Format, &kF16Format, &kBF16Format};

// Experts of which the last has no rows.
struct Problem {
  Problem(const Kernels& kernels, const ExpertProduct& weights, int64_t rows, DType tokens)
      : context(kernels, 2, true, warnings), product(weights), count(rows), dtype(tokens) {
    const int64_t half = product.gated() ? product.rows / 2 : product.rows;
    for (int64_t i = 0; i < 2 * kExperts; ++i) matrices.emplace_back(random, *product.format, half, product.columns);
    const std::vector<float> values = random.values(rows * product.columns);
    x.resize(values.size() * info(tokens).bytes);
    kernels.from_f32(tokens, values.data(), std::ssize(values), x.data());
  }

  std::vector<float> multiply(CpuPackedExperts& packed) {
    for (int64_t expert = 0; expert < kExperts; ++expert) {
      const WeightView up = product.gated() ? matrices[kExperts + expert].view() : WeightView{};
      MOE_CHECK(packed.set_expert(expert, matrices[expert].view(), up).ok());
    }
    std::vector<float> y(static_cast<size_t>(count * product.outputs()), NAN);
    int32_t offsets[] = {0, static_cast<int32_t>(count / 3), static_cast<int32_t>(count), static_cast<int32_t>(count)};
    MOE_CHECK(run(context, GroupedGemm{.x = {x.data(), dtype, 2, {count, product.columns}},
                                       .weight = &packed,
                                       .bias = {},
                                       .offsets = {offsets, DType::i32, 1, {kExperts + 1}},
                                       .token_of_row = {},
                                       .y = {y.data(), DType::f32, 2, {count, product.outputs()}}})
                  .ok());
    return y;
  }

  test::Random random{23};
  Warnings warnings;
  Context context;
  ExpertProduct product;
  int64_t count;
  DType dtype;
  std::vector<test::RandomWeight> matrices;
  std::vector<char> x;
};

}  // namespace

MOE_TEST(borrowed_weights_give_the_bits_of_packed_ones) {
  for (const Kernels* kernels : available_kernels()) {
    for (const WeightFormat* format : kFormats) {
      for (const DType tokens : {DType::f32, DType::bf16}) {
        for (const Activation activation : {Activation::none, Activation::swiglu}) {
          for (const int64_t columns : {1, 70, 1100}) {
            for (const int64_t rows : {3, 90}) {
              const ExpertProduct product{
                  .experts = kExperts, .rows = 74, .columns = columns, .format = format, .activation = activation};
              Problem problem(*kernels, product, rows, tokens);
              std::unique_ptr<CpuPackedExperts> packed, borrowed;
              MOE_CHECK(CpuPackedExperts::create(product, *kernels, problem.context.team, true, &packed).ok());
              MOE_CHECK(CpuPackedExperts::borrowing(product, *kernels, problem.context.team, &borrowed).ok());
              MOE_CHECK(borrowed->borrows() && borrowed->bytes() == 0);
              MOE_CHECK(problem.multiply(*borrowed) == problem.multiply(*packed));
            }
          }
        }
      }
    }
  }
}

MOE_TEST(borrowed_experts_that_were_not_set_are_zeros) {
  for (const Kernels* kernels : available_kernels()) {
    const ExpertProduct product{.experts = kExperts, .rows = 40, .columns = 33, .format = &kF32Format};
    Problem problem(*kernels, product, 1, DType::f32);
    std::unique_ptr<CpuPackedExperts> borrowed;
    MOE_CHECK(CpuPackedExperts::borrowing(product, *kernels, problem.context.team, &borrowed).ok());
    std::vector<float> y(40, NAN);
    int32_t offsets[] = {0, 1, 1, 1};
    MOE_CHECK(run(problem.context, GroupedGemm{.x = {problem.x.data(), DType::f32, 2, {1, 33}},
                                               .weight = borrowed.get(),
                                               .bias = {},
                                               .offsets = {offsets, DType::i32, 1, {kExperts + 1}},
                                               .token_of_row = {},
                                               .y = {y.data(), DType::f32, 2, {1, 40}}})
                  .ok());
    MOE_CHECK(y == std::vector<float>(40, 0.0f));
  }
}

MOE_TEST(weights_are_borrowed_while_experts_have_few_rows_each) {
  MOE_CHECK(are_few_blocks(0, 0, 0));
  MOE_CHECK(are_few_blocks(192, 1, 2048) && !are_few_blocks(193, 1, 2048));
  MOE_CHECK(are_few_blocks(1536, 8, 2048) && !are_few_blocks(1537, 8, 2048));
  MOE_CHECK(!are_few_blocks(1, 1, int64_t{1} << 30));
}
