#include "cpu/random.h"

#include "core/random.h"

namespace moe::cpu {

// Values that a thread draws in one go; whole counters.
constexpr int64_t kDrawnAtOnce = 1024;

// Numbers begin .. end of a seed's sequence.
static void draw(uint64_t seed, Distribution distribution, int64_t begin, int64_t end, float* values) {
  float numbers[kRandomLanes];
  for (int64_t counter = begin / kRandomLanes; counter * kRandomLanes < end; ++counter) {
    if (distribution == Distribution::normal) {
      draw_normal(seed, static_cast<uint64_t>(counter), numbers);
    } else {
      draw_uniform(seed, static_cast<uint64_t>(counter), numbers);
    }
    const int64_t first = std::max(begin, counter * kRandomLanes);
    const int64_t last = std::min(end, (counter + 1) * kRandomLanes);
    for (int64_t i = first; i < last; ++i) values[i - begin] = numbers[i % kRandomLanes];
  }
}

void fill_random(const Team& team, const Random& p) {
  float* values = p.values.as<float>();
  team.for_range(p.values.size(), kDrawnAtOnce, [&](int64_t begin, int64_t end) {
    draw(p.seed, p.distribution, p.offset + begin, p.offset + end, values + begin);
  });
}

void jitter_rows(const Context& context, const Jitter& p) {
  const int64_t element_bytes = static_cast<int64_t>(info(p.x.dtype).bytes);
  context.team.for_range(p.x.size(), kDrawnAtOnce, [&](int64_t begin, int64_t end) {
    float values[kDrawnAtOnce], numbers[kDrawnAtOnce];
    const int64_t count = end - begin;
    context.kernels.to_f32(p.x.dtype, p.x.as<const char>() + begin * element_bytes, count, values);
    draw(p.seed, Distribution::uniform, begin, end, numbers);
    for (int64_t i = 0; i < count; ++i) values[i] *= jitter_factor(numbers[i], p.epsilon);
    context.kernels.from_f32(p.y.dtype, values, count, p.y.as<char>() + begin * element_bytes);
  });
}

}  // namespace moe::cpu
