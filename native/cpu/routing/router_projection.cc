#include "cpu/gemm/row_product.h"
#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const RouterProjection& p) {
  const int64_t experts = p.weight.shape[0];
  std::unique_ptr<CpuPackedExperts> packed;
  const ExpertProduct weights{
      .experts = 1, .rows = experts, .columns = p.weight.shape[1], .format = &plain_format(p.weight.dtype)};
  MOE_TRY(CpuPackedExperts::create(weights, context.kernels, context.team, context.poison, &packed));
  // A weight without columns has no memory.
  if (p.weight.size() > 0) MOE_TRY(packed->set_expert(0, plain_weight(whole_matrix(p.weight)), {}));
  const int32_t offsets[2] = {0, static_cast<int32_t>(p.x.shape[0])};
  return multiply_rows(context, {.x = p.x,
                                 .weights = packed.get(),
                                 .bias = p.bias,
                                 .offsets = offsets,
                                 .token_of_row = nullptr,
                                 .arithmetic_dtype = float32_tokens(context.kernels.gemm, p.x.dtype, *weights.format),
                                 .y = p.logits});
}

}  // namespace moe::cpu
