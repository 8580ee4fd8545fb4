#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const ExpertTotalsBackward& p) {
  constexpr int64_t kTokensAtOnce = 256;
  const int64_t tokens = p.ids.shape[0], top_k = p.ids.shape[1], experts = p.d_sums.shape[1];
  const int64_t tokens_per_sequence = tokens / p.d_sums.shape[0];
  const TokenMask mask(p.token_mask);
  context.team.for_range(tokens, kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const float* sums = p.d_sums.as<const float>() + token / tokens_per_sequence * experts;
      for (int64_t j = 0; j < top_k; ++j) {
        const int64_t slot = token * top_k + j;
        const bool counts = j < p.choices && mask.counts(token);
        const int64_t expert = counts ? index_or_none(p.ids.as<const int32_t>()[slot], experts) : -1;
        p.d_weights.as<float>()[slot] = expert < 0 ? 0.0f : sums[expert];
      }
    }
  });
  return check_ids("expertTotalsBackward: ids", p.ids, p.choices, mask, experts, "an expert");
}

}  // namespace moe::cpu
