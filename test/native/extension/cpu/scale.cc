#include "cpu/operators.h"

namespace moe::cpu {

Status run(Context& context, const TestScale& p) {
  constexpr int64_t kValuesAtOnce = 1024;
  const int64_t element = static_cast<int64_t>(info(p.x.dtype).bytes);
  context.team.for_range(p.x.size(), kValuesAtOnce, [&](int64_t begin, int64_t end) {
    float values[kValuesAtOnce];
    context.kernels.to_f32(p.x.dtype, p.x.as<const char>() + begin * element, end - begin, values);
    for (int64_t i = 0; i < end - begin; ++i) values[i] *= p.factor;
    context.kernels.from_f32(p.y.dtype, values, end - begin, p.y.as<char>() + begin * element);
  });
  return {};
}

}  // namespace moe::cpu
