// 8 float32 lanes of AVX2 with FMA and F16C. Included inside an instruction set's namespace and target region.

struct Vector;

using VectorBits = __m256i;
#include "cpu/isa/word_lanes.h"

// 8 words of bits.
struct Words {
  WordLanes v;

  static Words load(const char* p) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))}; }
  void store(char* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  // Bfloat16 numbers whose exponents are added to, unless they are zero.
  Words numbers_with_exponents(Words added) const {
    const __m256i magnitude = _mm256_and_si256(v, _mm256_set1_epi16(0x7fff));
    const __m256i zero = _mm256_cmpeq_epi16(magnitude, _mm256_setzero_si256());
    return {_mm256_add_epi16(v, _mm256_andnot_si256(zero, added.v))};
  }
  // Less `byte` in every byte.
  Words bytes_lowered(int byte) const { return {_mm256_sub_epi8(v, _mm256_set1_epi8(static_cast<char>(byte)))}; }
  // Half words, filled up with zeros.
  static Words load_halves(const char* p) {
    return {_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  // Shifted to the left, or to the right if n is negative.
  template <int n>
  Words shifted() const {
    return {n >= 0 ? _mm256_slli_epi32(v, n < 0 ? 0 : n) : _mm256_srli_epi32(v, n < 0 ? -n : 0)};
  }
  // Integers of a float's precision, and back.
  static Words integers(Vector values);
  // The bits of numbers, and back.
  static Words of(Vector values);
  Vector number() const;
  Vector as_float() const;
  static Words broadcast(int32_t word) { return {_mm256_set1_epi32(word)}; }
  Words plus(Words other) const { return {_mm256_add_epi32(v, other.v)}; }
  Words minus(Words other) const { return {_mm256_sub_epi32(v, other.v)}; }
  // Half words, added.
  Words plus_halves(Words other) const { return {_mm256_add_epi16(v, other.v)}; }
  // The products of the signed halves of each word, added.
  Words halves_multiplied(Words other) const { return {_mm256_madd_epi16(v, other.v)}; }
  Words halves_added() const { return halves_multiplied({_mm256_set1_epi16(1)}); }
  // Integers of a byte.
  static Words load_bytes(const uint8_t* p) { return {_mm256_cvtepu8_epi32(eight_bytes(p))}; }
  static Words load_bytes(const int8_t* p) { return {_mm256_cvtepi8_epi32(eight_bytes(p))}; }
  static __m128i eight_bytes(const void* p) { return _mm_loadl_epi64(static_cast<const __m128i*>(p)); }
  // The same in both halves of a word.
  static Words load_doubled(const uint8_t* p) {
    const __m256i low =
        _mm256_setr_epi64x(0x8001800180008000, 0x8003800380028002, 0x8005800580048004, 0x8007800780068006);
    return {_mm256_shuffle_epi8(_mm256_broadcastq_epi64(eight_bytes(p)), low)};
  }
  static Words load_doubled(const int8_t* p) {
    const __m256i high =
        _mm256_setr_epi64x(0x0180018000800080, 0x0380038002800280, 0x0580058004800480, 0x0780078006800680);
    return {_mm256_srai_epi16(_mm256_shuffle_epi8(_mm256_broadcastq_epi64(eight_bytes(p)), high), 8)};
  }
  // The lower words of products.
  Words times(Words other) const { return {_mm256_mullo_epi32(v, other.v)}; }
  // Unsigned bytes times signed ones, in half words: the products of two neighbours, added.
  Words pair_products(Words signed_bytes) const { return {_mm256_maddubs_epi16(v, signed_bytes.v)}; }
  Words byte_magnitudes() const { return {_mm256_abs_epi8(v)}; }
  // Signed bytes, negated where the other's are negative; what they become where those are zero is not said.
  Words bytes_with_signs_of(Words other) const { return {_mm256_sign_epi8(v, other.v)}; }
  Words masked(uint32_t mask) const { return {_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(mask)))}; }
  Words flipped(uint32_t bits) const { return {_mm256_xor_si256(v, _mm256_set1_epi32(static_cast<int>(bits)))}; }
  Words masked_and_flipped(uint32_t mask, uint32_t bits) const { return masked(mask).flipped(bits); }
  // For each byte, which is below 16, that byte of a table.
  Words bytes_of(const uint8_t* table) const {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    return {_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), v)};
  }
  Words with(Words other) const { return {_mm256_or_si256(v, other.v)}; }
  // These bits where the mask has ones, the other's elsewhere.
  Words under(uint32_t mask, Words other) const {
    const __m256i ones = _mm256_set1_epi32(static_cast<int>(mask));
    return {_mm256_or_si256(_mm256_and_si256(ones, v), _mm256_andnot_si256(ones, other.v))};
  }
};

// Bytes of 16 columns at four consecutive k, row after row, as words of the columns: k in the order 0, 2, 1, 3.
inline void load_quads(const char* p, Words (&w)[2]) {
  __m128i k[4];
  for (int i = 0; i < 4; ++i) k[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i));
  const __m128i even[2] = {_mm_unpacklo_epi8(k[0], k[2]), _mm_unpackhi_epi8(k[0], k[2])};
  const __m128i odd[2] = {_mm_unpacklo_epi8(k[1], k[3]), _mm_unpackhi_epi8(k[1], k[3])};
  for (int j = 0; j < 2; ++j) {
    w[j] = {_mm256_set_m128i(_mm_unpackhi_epi16(even[j], odd[j]), _mm_unpacklo_epi16(even[j], odd[j]))};
  }
}

struct Vector {
  static constexpr int width = 8;
  __m256 v;

  static Vector zero() { return {_mm256_setzero_ps()}; }
  static Vector broadcast(float x) { return {_mm256_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm256_loadu_ps(p)}; }
  // The first `count` lanes, or all lanes if there are more; the others come from `rest`.
  static Vector load_first(const float* p, int64_t count, Vector rest) {
    if (count >= width) return load(p);
    const __m256i lanes = first_lanes(count);
    return {_mm256_blendv_ps(rest.v, _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes))};
  }
  void store_first(float* p, int64_t count) const {
    if (count >= width) return store(p);
    _mm256_maskstore_ps(p, first_lanes(count), v);
  }
  static __m256i first_lanes(int64_t count) {
    const __m256i numbers = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), numbers);
  }
  static Vector load(const f16* p) { return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
  static Vector load(const bf16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
  }
  static Vector load(const uint8_t* p) { return integers(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static Vector load(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
  }
  // E4M3 numbers times 2^-8: the bits of half-precision numbers. Never NaN.
  static Vector load_e4m3(const uint8_t* p) {
    const __m128i words = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m128i bits = _mm_and_si128(_mm_slli_epi16(words, 7), _mm_set1_epi16(static_cast<int16_t>(0xbfff)));
    return {_mm256_cvtph_ps(bits)};
  }
  // E8M0 numbers. Never NaN.
  static Vector load_e8m0(const uint8_t* p) {
    const __m256i bits = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return {_mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(bits, 23), _mm256_set1_epi32(0x400000)))};
  }
  // The signed integers in `bits` bits from `position` on.
  template <int bits, int position>
  static Vector field(Words words) {
    const Words top = words.shifted<32 - bits - position>();
    return {_mm256_cvtepi32_ps(_mm256_srai_epi32(top.v, 32 - bits))};
  }
  static Vector integers(__m128i bytes) { return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))}; }
  // The lower and the upper four bits of each of 8 bytes.
  static void load_nibbles(const uint8_t* p, Vector& low, Vector& high) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    const __m128i mask = _mm_set1_epi8(0xf);
    low = integers(_mm_and_si128(bytes, mask));
    high = integers(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask));
  }
  // The elements at even and odd k of 8 columns that are stored as pairs.
  static Vector load_even(const bf16* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(Words::load(reinterpret_cast<const char*>(p)).v, 16))};
  }
  static Vector load_odd(const bf16* p) {
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_and_si256(Words::load(reinterpret_cast<const char*>(p)).v, mask))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  // Past the caches, to an aligned place; other threads see it after end_streams().
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  static void end_streams() { _mm_sfence(); }
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
  // v * 2^n for an integral n, where both v and the result are normal.
  Vector times_exp2(Vector n) const {
    const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), exponent))};
  }
  // One bit for every lane that is at least the bar; never for NaN.
  uint32_t at_least(Vector bar) const {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(v, bar.v, _CMP_GE_OQ)));
  }
  // Interleaves the lanes of a and b.
  static void zip(Vector a, Vector b, Vector& first, Vector& second) {
    const __m256 low = _mm256_unpacklo_ps(a.v, b.v), high = _mm256_unpackhi_ps(a.v, b.v);
    first = {_mm256_permute2f128_ps(low, high, 0x20)};
    second = {_mm256_permute2f128_ps(low, high, 0x31)};
  }
  // The largest lane; no lane may be NaN.
  float largest() const {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  float sum() const {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  // Per lane: x where x is NaN, otherwise y.
  static Vector select_nan(Vector x, Vector y) {
    return {_mm256_blendv_ps(y.v, x.v, _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q))};
  }
  // Per lane: a where x < 0, otherwise b.
  static Vector select_negative(Vector x, Vector a, Vector b) { return {_mm256_blendv_ps(b.v, a.v, x.v)}; }
};

// 16 integers of a byte, looked up by the lower half of each byte.
struct ByteTable {
  __m256i values;

  explicit ByteTable(const float* p) {
    alignas(16) int8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<int8_t>(p[i]);
    values = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(bytes)));
  }
  Words at(Words words) const {
    return {_mm256_shuffle_epi8(values, _mm256_and_si256(words.v, _mm256_set1_epi8(0xf)))};
  }
};

// Whether codes in both halves of words are looked up at once.
constexpr bool kLooksUpPairs = false;
template <int bits>
struct PairTable;

// 16 numbers, looked up by four bits.
struct Table {
  // Whether looking up is faster than computing integers.
  static constexpr bool fast = false;
  using Bytes = ByteTable;
  __m256 low, high;

  explicit Table(const float* values) : low(_mm256_loadu_ps(values)), high(_mm256_loadu_ps(values + 8)) {}
  template <int position>
  Vector at(Words words) const {
    const __m256i index = words.shifted<-position>().v;
    const __m256 upper = _mm256_castsi256_ps(words.shifted<28 - position>().v);
    return {_mm256_blendv_ps(_mm256_permutevar8x32_ps(low, index), _mm256_permutevar8x32_ps(high, index), upper)};
  }
};

inline Words Words::of(Vector values) { return {_mm256_castps_si256(values.v)}; }
inline Vector Words::number() const { return {_mm256_castsi256_ps(v)}; }
inline Words Words::integers(Vector values) { return {_mm256_cvtps_epi32(values.v)}; }
inline Vector Words::as_float() const { return {_mm256_cvtepi32_ps(v)}; }

// Not friends: GCC leaves friends out of the target region.
inline Vector operator+(Vector a, Vector b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm256_div_ps(a.v, b.v)}; }

// Keys with their indices; see top_k.h.
struct Ranked {
  static constexpr int width = 4;
  __m256i v;

  // ranked() of 4 keyed indices.
  static Ranked load(const int64_t* keyed) {
    const __m256i keys = _mm256_set1_epi64x(INT64_MIN >> 31);
    const __m256i given = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keyed));
    const __m256 key = _mm256_castsi256_ps(_mm256_and_si256(given, keys));
    const __m256i bits = _mm256_castps_si256(_mm256_add_ps(key, _mm256_setzero_ps()));
    const __m256i rank = _mm256_xor_si256(bits, _mm256_srli_epi32(_mm256_srai_epi32(bits, 31), 1));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(key, key, _CMP_UNORD_Q));
    const __m256i ordered = _mm256_blendv_epi8(rank, _mm256_set1_epi64x(INT64_MIN), is_nan);
    return {_mm256_or_si256(ordered, _mm256_andnot_si256(keys, given))};
  }
  void store(int64_t* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static Ranked max(Ranked a, Ranked b) { return {_mm256_blendv_epi8(b.v, a.v, _mm256_cmpgt_epi64(a.v, b.v))}; }
  static Ranked min(Ranked a, Ranked b) { return {_mm256_blendv_epi8(a.v, b.v, _mm256_cmpgt_epi64(a.v, b.v))}; }
};
