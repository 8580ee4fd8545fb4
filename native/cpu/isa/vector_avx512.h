// 16 float32 lanes of AVX-512. Included inside an instruction set's namespace and target region.

struct Vector;

using VectorBits = __m512i;
#include "cpu/isa/word_lanes.h"

// 16 words of bits.
struct Words {
  WordLanes v;

  static Words load(const char* p) { return {_mm512_loadu_si512(p)}; }
  void store(char* p) const { _mm512_storeu_si512(p, v); }
  // Half words, filled up with zeros.
  static Words load_halves(const char* p) {
    return {_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  // Shifted to the left, or to the right if n is negative.
  template <int n>
  Words shifted() const {
    return {n >= 0 ? _mm512_slli_epi32(v, n < 0 ? 0 : n) : _mm512_srli_epi32(v, n < 0 ? -n : 0)};
  }
  // The bfloat16 numbers in the lower and in the upper halves.
  Vector even() const;
  Vector odd() const;
  // Integers of a float's precision, and back.
  static Words integers(Vector values);
  // The bits of numbers, and back.
  static Words of(Vector values);
  Vector number() const;
  Vector as_float() const;
  Words with(Words other) const { return {_mm512_or_si512(v, other.v)}; }
  static Words broadcast(int32_t word) { return {_mm512_set1_epi32(word)}; }
  Words plus(Words other) const { return {_mm512_add_epi32(v, other.v)}; }
  Words minus(Words other) const { return {_mm512_sub_epi32(v, other.v)}; }
  // Half words, added.
  Words plus_halves(Words other) const { return {_mm512_add_epi16(v, other.v)}; }
  // The products of the signed halves of each word, added.
  Words halves_multiplied(Words other) const { return {_mm512_madd_epi16(v, other.v)}; }
  Words halves_added() const { return halves_multiplied({_mm512_set1_epi16(1)}); }
  // Integers of a byte.
  static Words load_bytes(const uint8_t* p) {
    return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  static Words load_bytes(const int8_t* p) {
    return {_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
  }
  // The same in both halves of a word.
  template <class Byte>
  static Words load_doubled(const Byte* p) {
    const __m512i words = load_bytes(p).v;
    return {_mm512_mask_blend_epi16(0xaaaaaaaa, words, _mm512_slli_epi32(words, 16))};
  }
  // The lower words of products.
  Words times(Words other) const { return {_mm512_mullo_epi32(v, other.v)}; }
  // Unsigned bytes times signed ones, in half words: the products of two neighbours, added.
  Words pair_products(Words signed_bytes) const { return {_mm512_maddubs_epi16(v, signed_bytes.v)}; }
  Words byte_magnitudes() const { return {_mm512_abs_epi8(v)}; }
  // Signed bytes, negated where the other's are negative; what they become where those are zero is not said.
  Words bytes_with_signs_of(Words other) const {
    return {_mm512_mask_sub_epi8(v, _mm512_movepi8_mask(other.v), _mm512_setzero_si512(), v)};
  }
  Words masked(uint32_t mask) const { return {_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(mask)))}; }
  Words flipped(uint32_t bits) const { return {_mm512_xor_si512(v, _mm512_set1_epi32(static_cast<int>(bits)))}; }
  // In one instruction, which compilers do not find.
  Words masked_and_flipped(uint32_t mask, uint32_t bits) const {
    return {_mm512_ternarylogic_epi32(v, _mm512_set1_epi32(static_cast<int>(mask)),
                                      _mm512_set1_epi32(static_cast<int>(bits)), 0x6a)};
  }
  // Bfloat16 numbers whose exponents are added to, unless they are zero.
  Words numbers_with_exponents(Words added) const {
    return {_mm512_mask_add_epi16(v, _mm512_test_epi16_mask(v, _mm512_set1_epi16(0x7fff)), v, added.v)};
  }
  // Less `byte` in every byte.
  Words bytes_lowered(int byte) const { return {_mm512_sub_epi8(v, _mm512_set1_epi8(static_cast<char>(byte)))}; }
  // Both halves shifted to the right.
  template <int n>
  Words halves_shifted() const {
    return n == 0 ? *this : Words{_mm512_srli_epi16(v, n)};
  }
  // For each byte, which is below 16, that byte of a table.
  Words bytes_of(const uint8_t* table) const {
    const __m128i bytes = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
    return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), v)};
  }
  // These bits where the mask has ones, the other's elsewhere.
  Words under(uint32_t mask, Words other) const {
    return {_mm512_ternarylogic_epi32(_mm512_set1_epi32(static_cast<int>(mask)), v, other.v, 0xca)};
  }
};

// Bytes of 32 columns at four consecutive k, row after row, as words of the columns: k in the order 0, 2, 1, 3.
inline void load_quads(const char* p, Words (&w)[2]) {
  const __m512i first = _mm512_loadu_si512(p), last = _mm512_loadu_si512(p + 64);
  // Lanes of pairs (0, 2) and (1, 3) of columns 0 to 7 or 8 to 15, and of those 16 further.
  const __m512i low = _mm512_unpacklo_epi8(first, last), high = _mm512_unpackhi_epi8(first, last);
  alignas(64) static constexpr auto kWords = [] {
    std::array<uint16_t, 32> words{};
    for (int column = 0; column < 16; ++column) {
      for (int pair = 0; pair < 2; ++pair) {
        words[2 * column + pair] = static_cast<uint16_t>(column / 8 * 32 + 16 * pair + column % 8);
      }
    }
    return words;
  }();
  const __m512i words = _mm512_load_si512(kWords.data());
  w[0] = {_mm512_permutex2var_epi16(low, words, high)};
  w[1] = {_mm512_permutex2var_epi16(low, _mm512_add_epi16(words, _mm512_set1_epi16(8)), high)};
}

struct Vector {
  static constexpr int width = 16;
  __m512 v;

  static Vector zero() { return {_mm512_setzero_ps()}; }
  static Vector broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vector load(const float* p) { return {_mm512_loadu_ps(p)}; }
  // The first `count` lanes, or all lanes if there are more; the others come from `rest`.
  static Vector load_first(const float* p, int64_t count, Vector rest) {
    if (count >= width) return load(p);
    return {_mm512_mask_loadu_ps(rest.v, first_lanes(count), p)};
  }
  void store_first(float* p, int64_t count) const {
    if (count >= width) return store(p);
    _mm512_mask_storeu_ps(p, first_lanes(count), v);
  }
  static __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
  static Vector load(const f16* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
  }
  static Vector load(const bf16* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  static Vector load(const uint8_t* p) { return integers(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Vector load(const int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
  }
  // E4M3 numbers times 2^-8: the bits of half-precision numbers. Never NaN.
  static Vector load_e4m3(const uint8_t* p) {
    const __m256i words = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i bits = _mm256_and_si256(_mm256_slli_epi16(words, 7), _mm256_set1_epi16(static_cast<int16_t>(0xbfff)));
    return {_mm512_cvtph_ps(bits)};
  }
  // E8M0 numbers. Never NaN.
  static Vector load_e8m0(const uint8_t* p) {
    const __m512i bits = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return {_mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(bits, 23), _mm512_set1_epi32(0x400000)))};
  }
  // The signed integers in `bits` bits from `position` on.
  template <int bits, int position>
  static Vector field(Words words) {
    const Words top = words.shifted<32 - bits - position>();
    return {_mm512_cvtepi32_ps(_mm512_srai_epi32(top.v, 32 - bits))};
  }
  static Vector integers(__m128i bytes) { return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))}; }
  // The lower and the upper four bits of each of 16 bytes.
  static void load_nibbles(const uint8_t* p, Vector& low, Vector& high) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i mask = _mm_set1_epi8(0xf);
    low = integers(_mm_and_si128(bytes, mask));
    high = integers(_mm_and_si128(_mm_srli_epi16(bytes, 4), mask));
  }
  // The elements at even and odd k of 16 columns that are stored as pairs.
  static Vector load_even(const bf16* p);
  static Vector load_odd(const bf16* p);
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  // Past the caches, to an aligned place; other threads see it after end_streams().
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  static void end_streams() { _mm_sfence(); }
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
  // v * 2^n for an integral n, where both v and the result are normal.
  Vector times_exp2(Vector n) const {
    const __m512i exponent = _mm512_slli_epi32(_mm512_cvtps_epi32(n.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(v), exponent))};
  }
  // One bit for every lane that is at least the bar; never for NaN.
  uint32_t at_least(Vector bar) const { return _mm512_cmp_ps_mask(v, bar.v, _CMP_GE_OQ); }
  // Interleaves the lanes of a and b.
  static void zip(Vector a, Vector b, Vector& first, Vector& second) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    first = {_mm512_permutex2var_ps(a.v, low, b.v)};
    second = {_mm512_permutex2var_ps(a.v, _mm512_add_epi32(low, _mm512_set1_epi32(8)), b.v)};
  }
  // The largest lane; no lane may be NaN.
  float largest() const { return _mm512_reduce_max_ps(v); }
  float sum() const { return _mm512_reduce_add_ps(v); }
  // Per lane: x where x is NaN, otherwise y.
  static Vector select_nan(Vector x, Vector y) {
    return {_mm512_mask_mov_ps(y.v, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), x.v)};
  }
  // Per lane: a where x < 0, otherwise b.
  static Vector select_negative(Vector x, Vector a, Vector b) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, _mm512_setzero_ps(), _CMP_LT_OQ), b.v, a.v)};
  }
};

inline Words Words::of(Vector values) { return {_mm512_castps_si512(values.v)}; }
inline Vector Words::number() const { return {_mm512_castsi512_ps(v)}; }
inline Words Words::integers(Vector values) { return {_mm512_cvtps_epi32(values.v)}; }
inline Vector Words::as_float() const { return {_mm512_cvtepi32_ps(v)}; }
inline Vector Words::even() const { return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16))}; }
inline Vector Words::odd() const {
  return {_mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

inline Vector Vector::load_even(const bf16* p) { return Words{_mm512_loadu_si512(p)}.even(); }
inline Vector Vector::load_odd(const bf16* p) { return Words{_mm512_loadu_si512(p)}.odd(); }

// 16 numbers, looked up by four bits.
struct Table {
  // Whether looking up is faster than computing integers.
  static constexpr bool fast = true;
  using Bytes = void;
  __m512 values;

  explicit Table(const float* p) : values(_mm512_loadu_ps(p)) {}
  template <int position>
  Vector at(Words words) const {
    return {_mm512_permutexvar_ps(words.shifted<-position>().v, values)};
  }
};

// Whether codes in both halves of words are looked up at once.
constexpr bool kLooksUpPairs = true;

// Half words, looked up by the lowest `bits` bits of both halves of words, at most 6.
template <int bits>
struct PairTable {
  static constexpr int size = bits <= 5 ? 32 : 64;  // repeated as often as fits: the instructions read five bits or six
  __m512i first, last;

  explicit PairTable(const std::array<uint16_t, size>& values)
      : first(_mm512_loadu_si512(values.data())), last(_mm512_loadu_si512(values.data() + size - 32)) {}
  Words at(Words words) const {
    if constexpr (size == 32) return {_mm512_permutexvar_epi16(words.v, first)};
    return {_mm512_permutex2var_epi16(first, words.v, last)};
  }
};

// Not friends: GCC leaves friends out of the target region.
inline Vector operator+(Vector a, Vector b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vector operator-(Vector a, Vector b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vector operator*(Vector a, Vector b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vector operator/(Vector a, Vector b) { return {_mm512_div_ps(a.v, b.v)}; }

// Keys with their indices; see top_k.h.
struct Ranked {
  static constexpr int width = 8;
  __m512i v;

  // ranked() of 8 keyed indices.
  static Ranked load(const int64_t* keyed) {
    constexpr __mmask16 kKeys = 0xaaaa;
    const __m512 key = _mm512_castsi512_ps(_mm512_loadu_si512(keyed));
    const __m512 unsigned_zero = _mm512_mask_add_ps(key, kKeys, key, _mm512_setzero_ps());
    const __m512i bits = _mm512_castps_si512(unsigned_zero);
    const __m512i flips = _mm512_maskz_srli_epi32(kKeys, _mm512_srai_epi32(bits, 31), 1);
    const __mmask16 is_nan = _mm512_mask_cmp_ps_mask(kKeys, key, key, _CMP_UNORD_Q);
    return {_mm512_mask_mov_epi32(_mm512_xor_si512(bits, flips), is_nan, _mm512_set1_epi32(INT32_MIN))};
  }
  void store(int64_t* p) const { _mm512_storeu_si512(p, v); }
  static Ranked max(Ranked a, Ranked b) { return {_mm512_max_epi64(a.v, b.v)}; }
  static Ranked min(Ranked a, Ranked b) { return {_mm512_min_epi64(a.v, b.v)}; }
};
