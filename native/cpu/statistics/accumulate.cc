#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context&, const Accumulate& p) {
  const int64_t count = p.totals.shape[0];
  const auto add = [&]<class Value, class Wide>(const Value* values, Wide* totals, auto scale) {
    for (int64_t i = 0; i < count; ++i) {
      totals[i].add(scale * (p.values_are_totals ? reinterpret_cast<const Wide*>(values)[i].value() : values[i]));
    }
  };
  if (p.totals.dtype == DType::i32) {
    add(p.values.as<const int32_t>(), p.totals.as<WideInteger>(), int64_t{1});
  } else {
    add(p.values.as<const float>(), p.totals.as<WideFloat>(), p.scale);
  }
  return {};
}

}  // namespace moe::cpu
