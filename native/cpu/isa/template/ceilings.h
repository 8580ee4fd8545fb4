// Loops that measure the machine's peak performance. See kernels.h here.

// Multiplies one tile's rows by the same operands over and over, from registers and the first-level cache.
template <class Step, int rows>
void peak(int64_t iterations) {
  alignas(64) static constexpr typename Step::Value kX[Step::step * rows] = {};
  alignas(64) static constexpr char kW[Step::bytes] = {};
  // Volatile, so that the compiler cannot assume that nothing changes between iterations.
  const typename Step::Value* volatile x = kX;
  const char* volatile w = kW;
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

void read_stream(const char* bytes, int64_t count) {
  Vector sums[4] = {Vector::zero(), Vector::zero(), Vector::zero(), Vector::zero()};
  const float* values = reinterpret_cast<const float*>(bytes);
  const int64_t floats = count / static_cast<int64_t>(sizeof(float));
  for (int64_t i = 0; i + 4 * kWidth <= floats; i += 4 * kWidth) {
    for (int j = 0; j < 4; ++j) sums[j] = sums[j] + Vector::load(values + i + j * kWidth);
  }
  alignas(64) float sink[kWidth];
  (sums[0] + sums[1] + sums[2] + sums[3]).store(sink);
  [[maybe_unused]] volatile float kept = sink[0];
}
