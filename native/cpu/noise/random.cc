#include "cpu/operators.h"

#include "core/random.h"

namespace moe::cpu {

constexpr int64_t kNumbersAtOnce = kCountersAtOnce * kRandomLanes;
// Values that a thread draws in one step.
constexpr int64_t kDrawnAtOnce = 4 * kNumbersAtOnce;

// Numbers begin .. end of a seed's sequence.
static void draw(const Kernels& kernels, uint64_t seed, Distribution distribution, int64_t begin, int64_t end,
                 float* values) {
  float numbers[kNumbersAtOnce];
  for (int64_t first = begin / kRandomLanes * kRandomLanes; first < end; first += kNumbersAtOnce) {
    kernels.draw(seed, distribution, static_cast<uint64_t>(first / kRandomLanes), numbers);
    const int64_t from = std::max(begin, first), to = std::min(end, first + kNumbersAtOnce);
    std::copy(numbers + (from - first), numbers + (to - first), values + (from - begin));
  }
}

Status run(Context& context, const Random& p) {
  float* values = p.values.as<float>();
  context.team.for_range(p.values.size(), kDrawnAtOnce, [&](int64_t begin, int64_t end) {
    draw(context.kernels, p.seed, p.distribution, p.offset + begin, p.offset + end, values + begin);
  });
  return {};
}

Status run(Context& context, const Jitter& p) {
  const int64_t element_bytes = static_cast<int64_t>(info(p.x.dtype).bytes);
  context.team.for_range(p.x.size(), kDrawnAtOnce, [&](int64_t begin, int64_t end) {
    float values[kDrawnAtOnce], numbers[kDrawnAtOnce];
    const int64_t count = end - begin;
    context.kernels.to_f32(p.x.dtype, p.x.as<const char>() + begin * element_bytes, count, values);
    draw(context.kernels, p.seed, Distribution::uniform, begin, end, numbers);
    for (int64_t i = 0; i < count; ++i) values[i] *= jitter_factor(numbers[i], p.epsilon);
    context.kernels.from_f32(p.y.dtype, values, count, p.y.as<char>() + begin * element_bytes);
  });
  return {};
}

}  // namespace moe::cpu
