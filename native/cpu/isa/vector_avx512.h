// 16 float32 lanes of AVX-512. Included inside an instruction set's namespace and target region.

struct Vector {
  static constexpr int width = 16;
  __m512 v;

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vector load(const f16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vector load(const bf16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  // The elements of even and odd k of 16 columns stored as pairs.
  static void load_pairs(const bf16* p, Vector& even, Vector& odd) {
    const __m512i bits = _mm512_loadu_si512(p);
    even.v = _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
    odd.v = _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(f16* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  void store(bf16* p) const {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    const __m512i upper = _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, quiet), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(upper));
  }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  // NaN in b stays NaN.
  static Vector max(Vector a, Vector b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vector min(Vector a, Vector b) { return {_mm512_min_ps(a.v, b.v)}; }
  Vector abs() const { return {_mm512_abs_ps(v)}; }
  Vector sqrt() const { return {_mm512_sqrt_ps(v)}; }
  Vector round() const { return {_mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // 2^x of integral x in -126 .. 127.
  Vector exp2_integral() const {
    const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
  }
  // Where x < 0: a, else b.
  static Vector select_negative(Vector x, Vector a, Vector b) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), b.v, a.v)};
  }
};

// Not friends: GCC leaves those out of the target region.
inline Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm512_div_ps(a.v, b.v)}; }

// 16 ranks, see rank_of().
struct RankBlock {
  __m512i v;

  static RankBlock broadcast(int32_t rank) { return {_mm512_set1_epi32(rank)}; }
  static RankBlock load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  void store(int32_t* p) const { _mm512_storeu_si512(p, v); }
  static RankBlock max(RankBlock a, RankBlock b) { return {_mm512_max_epi32(a.v, b.v)}; }
  RankBlock plus(RankBlock other) const { return {_mm512_add_epi32(v, other.v)}; }
  // One more in every lane where a < b.
  RankBlock count_less(RankBlock a, RankBlock b) const {
    return {_mm512_mask_add_epi32(v, _mm512_cmplt_epi32_mask(a.v, b.v), v, _mm512_set1_epi32(1))};
  }
  int32_t largest() const { return _mm512_reduce_max_epi32(v); }
  uint32_t equal(int32_t rank) const { return _mm512_cmpeq_epi32_mask(v, _mm512_set1_epi32(rank)); }
  bool contains(int32_t rank) const { return equal(rank) != 0; }
  // The first lane that holds `rank`, which one must.
  int first(int32_t rank) const { return __builtin_ctz(equal(rank)); }
  void replace(int lane, int32_t rank) {
    v = _mm512_mask_mov_epi32(v, static_cast<__mmask16>(1u << lane), _mm512_set1_epi32(rank));
  }
  // Writes the lanes of at least `rank`, and their numbers counted from `base`; returns how many. The rest of 16 may be
  // overwritten, ranks with `fill`.
  int append(int32_t rank, int32_t fill, int32_t base, int32_t* ranks, int32_t* numbers) const {
    const __mmask16 wanted = _mm512_cmpge_epi32_mask(v, _mm512_set1_epi32(rank));
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_si512(ranks, _mm512_mask_compress_epi32(_mm512_set1_epi32(fill), wanted, v));
    _mm512_storeu_si512(numbers, _mm512_maskz_compress_epi32(wanted, _mm512_add_epi32(lanes, _mm512_set1_epi32(base))));
    return __builtin_popcount(wanted);
  }
};
