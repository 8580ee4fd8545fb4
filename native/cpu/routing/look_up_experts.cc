#include <algorithm>

#include "cpu/operators.h"
#include "cpu/runtime/indices.h"

namespace moe::cpu {

Status run(Context& context, const LookUpExperts& p) {
  constexpr int64_t kTokensAtOnce = 1024;
  const int64_t rows = p.table.shape[0], top_k = p.table.shape[1], tokens = p.token_ids.shape[0];
  const int32_t* token_ids = p.token_ids.as<const int32_t>();
  context.team.for_pieces(tokens, kTokensAtOnce, [&](int, int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t row = index_or_none(token_ids[token], rows);
      int32_t* ids = p.ids.as<int32_t>() + token * top_k;
      if (row < 0) {
        std::fill_n(ids, top_k, -1);
      } else {
        std::copy_n(p.table.as<const int32_t>() + row * top_k, top_k, ids);
      }
    }
  });
  return check_indices("lookUpExperts: tokenIds", p.token_ids, rows, "a token id");
}

}  // namespace moe::cpu
