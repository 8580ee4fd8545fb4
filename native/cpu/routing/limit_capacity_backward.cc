#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const LimitCapacityBackward& p) {
  constexpr int64_t kTokensAtOnce = 256;
  const int64_t top_k = p.ids.shape[1];
  context.team.for_range(p.ids.shape[0], kTokensAtOnce, [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * top_k; first < end * top_k; first += top_k) {
      const KeptChoices token{.ids = p.ids.as<const int32_t>() + first,
                              .kept_ids = p.kept_ids.as<const int32_t>() + first,
                              .weights = p.weights.as<const float>() + first,
                              .kept_gradient = p.d_kept_weights.as<const float>() + first,
                              .gradient = p.d_weights.as<float>() + first,
                              .count = top_k};
      token.run(p.divisor, p.scale);
    }
  });
  return {};
}

}  // namespace moe::cpu
