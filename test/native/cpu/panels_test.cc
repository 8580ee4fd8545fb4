#include "cpu/gemm/panels.h"

#include "check.h"
#include "cpu/isa/isa.h"
#include "cpu/random.h"

namespace {

using namespace moe;
using namespace moe::cpu;

// Where an element lies, straight from the description of PanelLayout.
float element(const CpuPackedExperts& packed, int64_t expert, int64_t panel, int64_t column, int64_t k) {
  const PanelLayout& layout = packed.layout();
  const int64_t group = k_group(plain_dtype(*packed.weights().format));
  const char* base = packed.data() + expert * layout.expert_bytes() + panel * layout.panel_bytes();
  const int64_t index = (k / group * layout.panel_columns + column) * group + k % group;
  switch (plain_dtype(*packed.weights().format)) {
    case DType::f16: return static_cast<float>(reinterpret_cast<const f16*>(base)[index]);
    case DType::bf16: return static_cast<float>(reinterpret_cast<const bf16*>(base)[index]);
    default: return reinterpret_cast<const float*>(base)[index];
  }
}

// Integers, which every dtype holds exactly.
std::vector<float> small_integers(test::Random& random, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.below(200) - 100);
  return values;
}

void check_packing(const Kernels& kernels, DType dtype, Activation activation, int64_t outputs, int64_t k) {
  test::Random random(3);
  const Team team{ThreadPool::shared(), 2};
  const bool gated = is_gated(activation);
  const ExpertProduct weights{2, gated ? 2 * outputs : outputs, k, &plain_format(dtype), activation};
  std::unique_ptr<CpuPackedExperts> packed;
  MOE_CHECK(CpuPackedExperts::create(weights, kernels, team, true, &packed).ok());
  for (int64_t expert = 0; expert < 2; ++expert) {
    std::vector<float> first = small_integers(random, outputs * k), up = small_integers(random, outputs * k);
    const TensorView first_view{first.data(), DType::f32, 2, {outputs, k}};
    const TensorView up_view{up.data(), DType::f32, 2, {outputs, k}};
    MOE_CHECK(packed
                  ->set_expert(expert, plain_weight(whole_matrix(first_view)),
                               plain_weight(gated ? whole_matrix(up_view) : MatrixView{}))
                  .ok());
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
        check_packing(*kernels, dtype, activation, 1, 1);
        check_packing(*kernels, dtype, activation, 37, 301);
        check_packing(*kernels, dtype, activation, 64, 64);
      }
    }
  }
}
