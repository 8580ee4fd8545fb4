#include "cpu/operators.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {

Status run(Context& context, const Permute& p) {
  return gather_rows(context.team, "permute: tokenOfRow", p.x, p.token_of_row.as<const int32_t>(),
                     p.token_of_row.size(), p.rows.as<char>());
}

Status run(Context& context, const Unpermute& p) {
  return gather_rows(context.team, "unpermute: rowOfSlot", p.rows, p.row_of_slot.as<const int32_t>(),
                     p.row_of_slot.size(), p.slots.as<char>());
}

}  // namespace moe::cpu
