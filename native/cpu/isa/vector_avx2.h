// 8 float32 lanes of AVX2 with FMA and F16C. Included inside an instruction set's namespace and target region.

struct Vector {
  static constexpr int width = 8;
  __m256 v;

  static Vector zero() { return {_mm256_setzero_ps()}; }
  static Vector broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vector load(const f16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  static Vector load(const bf16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  // The elements of even and odd k of 8 columns stored as pairs.
  static void load_pairs(const bf16* p, Vector& even, Vector& odd) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    even.v = _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
    odd.v = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store(f16* p) const {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  void store(bf16* p) const {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  // NaN in b stays NaN.
  static Vector max(Vector a, Vector b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vector min(Vector a, Vector b) { return {_mm256_min_ps(a.v, b.v)}; }
  Vector abs() const { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), v)}; }
  Vector sqrt() const { return {_mm256_sqrt_ps(v)}; }
  Vector round() const { return {_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // 2^x of integral x in -126 .. 127.
  Vector exp2_integral() const {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23))};
  }
  // Where x < 0: a, else b.
  static Vector select_negative(Vector x, Vector a, Vector b) { return {_mm256_blendv_ps(b.v, a.v, x.v)}; }
};

// Not friends: GCC leaves those out of the target region.
inline Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm256_div_ps(a.v, b.v)}; }

// 16 ranks, see rank_of().
struct RankBlock {
  __m256i low, high;

  static RankBlock broadcast(int32_t rank) { return {_mm256_set1_epi32(rank), _mm256_set1_epi32(rank)}; }
  static RankBlock load(const int32_t* p) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
  }
  void store(int32_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), high);
  }
  static RankBlock max(RankBlock a, RankBlock b) {
    return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)};
  }
  RankBlock plus(RankBlock other) const {
    return {_mm256_add_epi32(low, other.low), _mm256_add_epi32(high, other.high)};
  }
  // One more in every lane where a < b.
  RankBlock count_less(RankBlock a, RankBlock b) const {
    return {_mm256_sub_epi32(low, _mm256_cmpgt_epi32(b.low, a.low)),
            _mm256_sub_epi32(high, _mm256_cmpgt_epi32(b.high, a.high))};
  }
  int32_t largest() const {
    const __m256i eight = _mm256_max_epi32(low, high);
    __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
  }
  uint32_t equal(int32_t rank) const {
    const __m256i wanted = _mm256_set1_epi32(rank);
    const int first = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(low, wanted)));
    const int second = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(high, wanted)));
    return static_cast<uint32_t>(first | second << 8);
  }
  bool contains(int32_t rank) const { return equal(rank) != 0; }
  // The first lane that holds `rank`, which one must.
  int first(int32_t rank) const { return __builtin_ctz(equal(rank)); }
  void replace(int lane, int32_t rank) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i value = _mm256_set1_epi32(rank);
    low = _mm256_blendv_epi8(low, value, _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(lane)));
    high = _mm256_blendv_epi8(high, value, _mm256_cmpeq_epi32(lanes, _mm256_set1_epi32(lane - 8)));
  }
  // Writes the lanes of at least `rank`, and their numbers counted from `base`; returns how many.
  int append(int32_t rank, int32_t, int32_t base, int32_t* ranks, int32_t* numbers) const {
    const __m256i bar = _mm256_set1_epi32(rank);
    const int below_low = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bar, low)));
    const int below_high = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(bar, high)));
    uint32_t wanted = 0xffffu & ~static_cast<uint32_t>(below_low | below_high << 8);
    if (wanted == 0) return 0;
    alignas(32) int32_t lanes[kRankBlock];
    store(lanes);
    int count = 0;
    for (; wanted != 0; wanted &= wanted - 1, ++count) {
      const int lane = __builtin_ctz(wanted);
      ranks[count] = lanes[lane];
      numbers[count] = base + lane;
    }
    return count;
  }
};
