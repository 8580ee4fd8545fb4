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
template <bool past_caches>
void read_streams(const char* bytes, int64_t count) {
  Vector sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  const float* values = reinterpret_cast<const float*>(bytes);
  constexpr int64_t kLine = 64 / sizeof(float), kAhead = 32 * kLine;
  const int64_t floats = count / static_cast<int64_t>(4 * sizeof(float));
  for (int64_t i = 0; i + kLine <= floats; i += kLine) {
#pragma GCC unroll 4
    for (int stream = 0; stream < 4; ++stream) {
      if (past_caches) __builtin_prefetch(values + stream * floats + i + kAhead, 0, 0);
      for (int64_t j = 0; j < kLine; j += kWidth) {
        sums[stream] = sums[stream] + Vector::load(values + stream * floats + i + j);
      }
    }
  }
  alignas(64) float sink[kWidth];
  (sums[0] + sums[1] + sums[2] + sums[3]).store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}
