#include "cpu/operators.h"
#include "cpu/runtime/rows.h"

namespace moe::cpu {

Status run(Context& context, const Permute& p) {
  return gather_rows(context.team, "permute: tokenOfRow", p.x, p.token_of_row, p.rows.as<char>());
}

Status run(Context& context, const Unpermute& p) {
  return gather_rows(context.team, "unpermute: rowOfSlot", p.rows, p.row_of_slot, p.slots.as<char>());
}

}  // namespace moe::cpu
