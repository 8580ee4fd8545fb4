// Loops that measure the machine's peak performance. See kernels.h here.

// Ones as bfloat16, about one as float32. Not zeros: they take less power than the numbers of a layer, so that tile
// registers would run a quarter faster than they ever do in one.
template <int count>
struct PeakOperands {
  alignas(64) char bytes[count];
};
template <int count>
constexpr PeakOperands<count> kPeakOperands = [] {
  PeakOperands<count> ones{};
  for (int i = 0; i < count; i += 2) {
    ones.bytes[i] = static_cast<char>(0x80);
    ones.bytes[i + 1] = 0x3f;
  }
  return ones;
}();

// Multiplies one tile's rows by the same operands over and over, from registers and the first-level cache.
template <class Step, int rows>
void peak(int64_t iterations) {
  using Value = typename Step::Value;
  // Volatile, so that the compiler cannot assume that nothing changes between iterations.
  const auto* volatile x = reinterpret_cast<const Value*>(kPeakOperands<Step::step * rows * sizeof(Value)>.bytes);
  const char* volatile w = kPeakOperands<Step::bytes>.bytes;
  Sums<rows> sums = {};
  for (int64_t i = 0; i < iterations; ++i) Step::template multiply<rows>(x, w, sums);
  alignas(64) float sink[kPanelColumns];
  Vector total = Vector::zero();
  for (int r = 0; r < rows; ++r) total = total + sums[r][0] + sums[r][1];
  total.store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}

template <class Step>
constexpr PeakLoop peak_loop() {
  return {&peak<Step, kTileRows>, 2.0 * Step::step * kTileRows * kPanelColumns};
}

// A core reads four streams faster than one, by up to a fifth on Zen 3, and past the caches by up to a tenth on Zen 4.
// Intel's with AMX read a single stream fastest, by up to a quarter, if it is prefetched far ahead.
enum class Reading : uint8_t { streams, streams_past_caches, far_ahead };

template <Reading reading>
void read_memory(const char* bytes, int64_t count) {
  constexpr bool far = reading == Reading::far_ahead;
  constexpr int64_t kLine = 64 / sizeof(float), kAhead = (far ? 1024 : 32) * kLine;
  const int64_t lines = count / (4 * 64), stride = far ? kLine : lines * kLine, step = far ? 4 * kLine : kLine;
  Vector sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  const float* next = reinterpret_cast<const float*>(bytes);
  for (int64_t i = 0; i < lines; ++i, next += step) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const float* line = next + part * stride;
      if constexpr (far) __builtin_prefetch(line + kAhead, 0, 2);
      if constexpr (reading == Reading::streams_past_caches) __builtin_prefetch(line + kAhead, 0, 0);
      for (int64_t j = 0; j < kLine; j += kWidth) sums[part] = sums[part] + Vector::load(line + j);
    }
  }
  alignas(64) float sink[kWidth];
  (sums[0] + sums[1] + sums[2] + sums[3]).store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}
