// 4 float32 lanes of AArch64's NEON. Included inside an instruction set's namespace and target region.

struct Vector;

// The lanes that one load fills with what is left, and the load.
constexpr int lanes_for(int left) { return left >= 4 ? 4 : left >= 2 ? 2 : 1; }
inline uint8x8_t load_four_bytes(const void* p) {
  uint32_t four;
  std::memcpy(&four, p, sizeof four);
  return vcreate_u8(four);
}
template <int lanes>
[[gnu::always_inline]] inline auto load_lanes(const void* p) {
  if constexpr (lanes == 4) return vld1q_u8(static_cast<const uint8_t*>(p));
  if constexpr (lanes == 2) return vld1_u8(static_cast<const uint8_t*>(p));
  if constexpr (lanes == 1) return load_four_bytes(p);
}

// 4 words of bits.
struct Words {
  uint32x4_t v;

  static Words of_bytes(uint8x16_t bytes) { return {vreinterpretq_u32_u8(bytes)}; }
  static Words of_integers(int32x4_t integers) { return {vreinterpretq_u32_s32(integers)}; }
  uint8x16_t bytes() const { return vreinterpretq_u8_u32(v); }
  int8x16_t signed_bytes() const { return vreinterpretq_s8_u32(v); }
  uint16x8_t halves() const { return vreinterpretq_u16_u32(v); }
  int32x4_t integers() const { return vreinterpretq_s32_u32(v); }

  static Words load(const char* p) { return of_bytes(vld1q_u8(reinterpret_cast<const uint8_t*>(p))); }
  void store(char* p) const { vst1q_u8(reinterpret_cast<uint8_t*>(p), bytes()); }
  // Bfloat16 numbers whose exponents are added to, unless they are zero.
  Words numbers_with_exponents(Words added) const {
    const uint16x8_t present = vtstq_u16(halves(), vdupq_n_u16(0x7fff));
    return {vreinterpretq_u32_u16(vaddq_u16(halves(), vandq_u16(present, added.halves())))};
  }
  // Less `byte` in every byte.
  Words bytes_lowered(int byte) const { return of_bytes(vsubq_u8(bytes(), vdupq_n_u8(static_cast<uint8_t>(byte)))); }
  // Half words, filled up with zeros.
  static Words load_halves(const char* p) {
    return {vmovl_u16(vreinterpret_u16_u8(vld1_u8(reinterpret_cast<const uint8_t*>(p))))};
  }
  // Shifted to the left, or to the right if n is negative.
  template <int n>
  Words shifted() const {
    if constexpr (n == 0) return *this;
    if constexpr (n > 0) return {vshlq_n_u32(v, n)};
    if constexpr (n < 0) return {vshrq_n_u32(v, -n)};
  }
  // Integers of a float's precision, and back.
  static Words integers(Vector values);
  // The bits of numbers, and back.
  static Words of(Vector values);
  Vector number() const;
  Vector as_float() const;
  static Words broadcast(int32_t word) { return of_integers(vdupq_n_s32(word)); }
  Words plus(Words other) const { return {vaddq_u32(v, other.v)}; }
  Words minus(Words other) const { return {vsubq_u32(v, other.v)}; }
  // Integers of a byte.
  static Words load_bytes(const uint8_t* p) { return {vmovl_u16(vget_low_u16(vmovl_u8(load_four_bytes(p))))}; }
  static Words load_bytes(const int8_t* p) {
    return of_integers(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_four_bytes(p))))));
  }
  // The same in both halves of a word.
  template <class Byte>
  static Words load_doubled(const Byte* p) {
    const uint16x8_t halves = load_bytes(p).halves();
    return {vreinterpretq_u32_u16(vtrn1q_u16(halves, halves))};
  }
  // The lower words of products.
  Words times(Words other) const { return {vmulq_u32(v, other.v)}; }
  Words masked(uint32_t mask) const { return {vandq_u32(v, vdupq_n_u32(mask))}; }
  Words flipped(uint32_t bits) const { return {veorq_u32(v, vdupq_n_u32(bits))}; }
  Words masked_and_flipped(uint32_t mask, uint32_t bits) const { return masked(mask).flipped(bits); }
  // For each byte, which is below 16, that byte of a table.
  Words bytes_of(const uint8_t* table) const { return of_bytes(vqtbl1q_u8(vld1q_u8(table), bytes())); }
  Words with(Words other) const { return {vorrq_u32(v, other.v)}; }
  // These bits where the mask has ones, the other's elsewhere.
  Words under(uint32_t mask, Words other) const { return {vbslq_u32(vdupq_n_u32(mask), v, other.v)}; }
};

// Bytes of 8 columns at four consecutive k, row after row, as words of the columns: k in the order 0, 2, 1, 3.
inline void load_quads(const char* p, Words (&w)[2]) {
  const uint8x16_t first = Words::load(p).bytes(), last = Words::load(p + 16).bytes();
  const uint16x8_t even = vreinterpretq_u16_u8(vzip1q_u8(first, last));
  const uint16x8_t odd = vreinterpretq_u16_u8(vzip2q_u8(first, last));
  w[0] = {vreinterpretq_u32_u16(vzip1q_u16(even, odd))};
  w[1] = {vreinterpretq_u32_u16(vzip2q_u16(even, odd))};
}

struct Vector {
  static constexpr int width = 4;
  float32x4_t v;

  static Vector of_bits(uint32x4_t bits) { return {vreinterpretq_f32_u32(bits)}; }
  uint32x4_t bits() const { return vreinterpretq_u32_f32(v); }

  static Vector zero() { return {vdupq_n_f32(0)}; }
  static Vector broadcast(float x) { return {vdupq_n_f32(x)}; }
  static Vector load(const float* p) { return {vld1q_f32(p)}; }
  // The first `count` lanes, or all lanes if there are more; the others come from `rest`.
  static Vector load_first(const float* p, int64_t count, Vector rest) {
    if (count >= width) return load(p);
    float lanes[width];
    rest.store(lanes);
    for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
    return load(lanes);
  }
  void store_first(float* p, int64_t count) const {
    if (count >= width) return store(p);
    float lanes[width];
    store(lanes);
    for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
  }
  static Vector load(const f16* p) { return of_halves(four_halves(p)); }
  static Vector load(const bf16* p) { return of_bits(vshll_n_u16(four_halves(p), 16)); }
  static uint16x4_t four_halves(const void* p) { return vld1_u16(static_cast<const uint16_t*>(p)); }
  static Vector of_halves(uint16x4_t halves) { return {vcvt_f32_f16(vreinterpret_f16_u16(halves))}; }
  static Vector load(const uint8_t* p) { return {vcvtq_f32_u32(Words::load_bytes(p).v)}; }
  static Vector load(const int8_t* p) { return {vcvtq_f32_s32(Words::load_bytes(p).integers())}; }
  // E4M3 numbers times 2^-8: the bits of half-precision numbers. Never NaN.
  static Vector load_e4m3(const uint8_t* p) {
    const int16x4_t words = vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_four_bytes(p))));
    const uint16x4_t bits = vreinterpret_u16_s16(vshl_n_s16(words, 7));
    return of_halves(vand_u16(bits, vdup_n_u16(0xbfff)));
  }
  // E8M0 numbers. Never NaN.
  static Vector load_e8m0(const uint8_t* p) {
    return of_bits(vmaxq_u32(Words::load_bytes(p).shifted<23>().v, vdupq_n_u32(0x400000)));
  }
  // The signed integers in `bits` bits from `position` on.
  template <int bits, int position>
  static Vector field(Words words) {
    const Words top = words.shifted<32 - bits - position>();
    return {vcvtq_f32_s32(vshrq_n_s32(top.integers(), 32 - bits))};
  }
  // The lower and the upper four bits of each of 4 bytes.
  static void load_nibbles(const uint8_t* p, Vector& low, Vector& high) {
    const Words bytes = Words::load_bytes(p);
    low = {vcvtq_f32_u32(bytes.masked(0xf).v)};
    high = {vcvtq_f32_u32(bytes.shifted<-4>().v)};
  }
  // The elements at even and odd k of 4 columns that are stored as pairs.
  static Vector load_even(const bf16* p) {
    return of_bits(Words::load(reinterpret_cast<const char*>(p)).shifted<16>().v);
  }
  static Vector load_odd(const bf16* p) {
    return of_bits(Words::load(reinterpret_cast<const char*>(p)).masked(0xffff0000u).v);
  }
  void store(float* p) const { vst1q_f32(p, v); }
  // There are no such stores of one vector.
  void stream(float* p) const { store(p); }
  static void end_streams() {}
  void store(f16* p) const { vst1_u16(reinterpret_cast<uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  void store(bf16* p) const {
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits(), 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits(), vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits(), vdupq_n_u32(0x400000));
    vst1_u16(reinterpret_cast<uint16_t*>(p), vshrn_n_u32(vbslq_u32(is_number(), rounded, quiet), 16));
  }
  // All ones in lanes that are not NaN.
  uint32x4_t is_number() const { return vceqq_f32(v, v); }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  // Adds x[i] times w to sums[i], for rows from `row` on. A lane of a vector multiplies all of another.
  static constexpr bool multiplies_by_lanes = true;
  template <int row, int rows, class Weights, class Sums>
  [[gnu::always_inline]] static void multiply_by_lanes(const float* x, const Weights& w, Sums& sums) {
    if constexpr (row < rows) {
      constexpr int count = lanes_for(rows - row);
      multiply_lanes(load_lanes<count>(x + row), w, sums + row, std::make_integer_sequence<int, count>());
      multiply_by_lanes<row + count, rows>(x, w, sums);
    }
  }
  template <class Lanes, class Weights, class Row, int... lane>
  [[gnu::always_inline]] static void multiply_lanes(Lanes x, const Weights& w, Row* sums,
                                                    std::integer_sequence<int, lane...>) {
    ((sums[lane][0].v = add_lane<lane>(sums[lane][0].v, w[0].v, x),
      sums[lane][1].v = add_lane<lane>(sums[lane][1].v, w[1].v, x)),
     ...);
  }
  template <int lane>
  [[gnu::always_inline]] static float32x4_t add_lane(float32x4_t sum, float32x4_t w, uint8x16_t x) {
    return vfmaq_laneq_f32(sum, w, vreinterpretq_f32_u8(x), lane);
  }
  template <int lane>
  [[gnu::always_inline]] static float32x4_t add_lane(float32x4_t sum, float32x4_t w, uint8x8_t x) {
    return vfmaq_lane_f32(sum, w, vreinterpret_f32_u8(x), lane);
  }
  // NaN in b stays NaN, and NaN in a gives b.
  static Vector max(Vector a, Vector b) { return {vbslq_f32(vcgtq_f32(a.v, b.v), a.v, b.v)}; }
  static Vector min(Vector a, Vector b) { return {vbslq_f32(vcltq_f32(a.v, b.v), a.v, b.v)}; }
  Vector abs() const { return {vabsq_f32(v)}; }
  Vector sqrt() const { return {vsqrtq_f32(v)}; }
  Vector round() const { return {vrndnq_f32(v)}; }
  // v * 2^n for an integral n, where both v and the result are normal.
  Vector times_exp2(Vector n) const {
    const uint32x4_t exponent = vshlq_n_u32(vreinterpretq_u32_s32(vcvtnq_s32_f32(n.v)), 23);
    return of_bits(vaddq_u32(bits(), exponent));
  }
  // One bit for every lane that is at least the bar; never for NaN.
  uint32_t at_least(Vector bar) const { return vaddvq_u32(vandq_u32(vcgeq_f32(v, bar.v), uint32x4_t{1, 2, 4, 8})); }
  // Interleaves the lanes of a and b.
  static void zip(Vector a, Vector b, Vector& first, Vector& second) {
    first = {vzip1q_f32(a.v, b.v)};
    second = {vzip2q_f32(a.v, b.v)};
  }
  // The largest lane; no lane may be NaN.
  float largest() const { return vmaxvq_f32(v); }
  float sum() const { return vaddv_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))); }
  // Per lane: x where x is NaN, otherwise y.
  static Vector select_nan(Vector x, Vector y) { return {vbslq_f32(x.is_number(), y.v, x.v)}; }
  // Per lane: a where x < 0, otherwise b.
  static Vector select_negative(Vector x, Vector a, Vector b) { return {vbslq_f32(vcltzq_f32(x.v), a.v, b.v)}; }
};

// 16 integers of a byte, looked up by the lower half of each byte.
struct ByteTable {
  uint8x16_t values;

  explicit ByteTable(const float* p) {
    int8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<int8_t>(p[i]);
    values = vreinterpretq_u8_s8(vld1q_s8(bytes));
  }
  Words at(Words words) const { return Words::of_bytes(vqtbl1q_u8(values, words.masked(0x0f0f0f0fu).bytes())); }
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
  uint8x16x4_t values;

  explicit Table(const float* p) {
    for (int i = 0; i < 4; ++i) values.val[i] = vreinterpretq_u8_f32(vld1q_f32(p + 4 * i));
  }
  // By the places of a number's bytes.
  template <int position>
  Vector at(Words words) const {
    const Words index = words.shifted<-position>().masked(0xf);
    const uint32x4_t places = vmlaq_u32(vdupq_n_u32(0x03020100), index.v, vdupq_n_u32(0x04040404));
    return {vreinterpretq_f32_u8(vqtbl4q_u8(values, vreinterpretq_u8_u32(places)))};
  }
};

inline Words Words::of(Vector values) { return {values.bits()}; }
inline Vector Words::number() const { return Vector::of_bits(v); }
inline Words Words::integers(Vector values) { return of_integers(vcvtnq_s32_f32(values.v)); }
inline Vector Words::as_float() const { return {vcvtq_f32_s32(integers())}; }

inline Vector operator+(Vector a, Vector b) { return {vaddq_f32(a.v, b.v)}; }
inline Vector operator-(Vector a, Vector b) { return {vsubq_f32(a.v, b.v)}; }
inline Vector operator*(Vector a, Vector b) { return {vmulq_f32(a.v, b.v)}; }
inline Vector operator/(Vector a, Vector b) { return {vdivq_f32(a.v, b.v)}; }

// Keys with their indices; see top_k.h.
struct Ranked {
  static constexpr int width = 2;
  int64x2_t v;

  // ranked() of 2 keyed indices.
  static Ranked load(const int64_t* keyed) {
    const uint64x2_t keys = vdupq_n_u64(0xffffffff00000000u);
    const uint64x2_t given = vreinterpretq_u64_s64(vld1q_s64(keyed));
    const float32x4_t key = vaddq_f32(vreinterpretq_f32_u64(vandq_u64(given, keys)), vdupq_n_f32(0));
    const uint32x4_t sign = vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_f32(key), 31));
    const uint32x4_t rank = veorq_u32(vreinterpretq_u32_f32(key), vshrq_n_u32(sign, 1));
    const uint32x4_t least = vreinterpretq_u32_u64(vdupq_n_u64(0x8000000000000000u));
    const uint32x4_t ordered = vbslq_u32(vceqq_f32(key, key), rank, least);
    return {vreinterpretq_s64_u64(vorrq_u64(vreinterpretq_u64_u32(ordered), vbicq_u64(given, keys)))};
  }
  void store(int64_t* p) const { vst1q_s64(p, v); }
  static Ranked max(Ranked a, Ranked b) { return {vbslq_s64(vcgtq_s64(a.v, b.v), a.v, b.v)}; }
  static Ranked min(Ranked a, Ranked b) { return {vbslq_s64(vcgtq_s64(a.v, b.v), b.v, a.v)}; }
};
