// Random numbers of consecutive counters. See kernels.h here. Plain loops over counters, which compilers vectorise; the
// formulas are those of core/random.h.

// ln(x) for x in 2^-24 .. 1; Cephes' polynomial.
inline float logarithm(float x) {
  const uint32_t bits = float_bits(x);
  float exponent = static_cast<float>(static_cast<int32_t>(bits >> 23) - 126);
  const float half = float_from_bits((bits & 0x007fffffu) | 0x3f000000u);  // 1/2 .. 1
  const bool low = half < 0.70710678f;
  exponent -= low ? 1.0f : 0.0f;
  const float m = half - 1.0f + (low ? half : 0.0f), squared = m * m;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float tail = p * m * squared - 2.12194440e-4f * exponent - 0.5f * squared;
  return m + tail + 0.693359375f * exponent;
}

// The cosine and sine of b turns. The angle is split into the nearest quarter turn and an exact remainder, to which
// Cephes' polynomials apply.
inline void cosine_and_sine(float b, float& cosine, float& sine) {
  const int32_t quarter = static_cast<int32_t>(4.0f * b + 0.5f);
  const float x = 6.283185307179586f * (b - 0.25f * static_cast<float>(quarter)), z = x * x;
  const float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
  const float c =
      ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
  const bool odd = (quarter & 1) != 0;
  cosine = (1.0f - static_cast<float>((quarter + 1) & 2)) * (odd ? s : c);
  sine = (1.0f - static_cast<float>(quarter & 2)) * (odd ? c : s);
}

// Turns pairs of uniform numbers into pairs of normal ones, in place.
inline void make_normal(float* a, float* b) {
  alignas(64) float radius[kCountersAtOnce], cosine[kCountersAtOnce], sine[kCountersAtOnce];
  for (int i = 0; i < kCountersAtOnce; ++i) radius[i] = -2.0f * logarithm(a[i]);
  for (int i = 0; i < kCountersAtOnce; i += kWidth) Vector::load(radius + i).sqrt().store(radius + i);
  for (int i = 0; i < kCountersAtOnce; ++i) cosine_and_sine(b[i], cosine[i], sine[i]);
  for (int i = 0; i < kCountersAtOnce; ++i) {
    a[i] = radius[i] * cosine[i];
    b[i] = radius[i] * sine[i];
  }
}

void draw(uint64_t seed, Distribution distribution, uint64_t counter, float* numbers) {
  const auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  alignas(64) float lanes[kRandomLanes][kCountersAtOnce];
  for (int i = 0; i < kCountersAtOnce; ++i) {
    const uint64_t own = counter + static_cast<uint64_t>(i);
    const RandomWords words =
        philox({{static_cast<uint32_t>(own), static_cast<uint32_t>(own >> 32), 0, 0}}, key0, key1);
    for (int lane = 0; lane < kRandomLanes; ++lane) lanes[lane][i] = uniform_from_bits(words.of[lane]);
  }
  if (distribution == Distribution::normal) {
    for (int lane = 0; lane < kRandomLanes; lane += 2) make_normal(lanes[lane], lanes[lane + 1]);
  }
  for (int i = 0; i < kCountersAtOnce; ++i) {
    for (int lane = 0; lane < kRandomLanes; ++lane) numbers[i * kRandomLanes + lane] = lanes[lane][i];
  }
}
