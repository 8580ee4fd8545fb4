// 4 float32 lanes in the vector extensions that GCC and Clang have for every target; both make of them whatever vectors
// the target has. Included inside the portable namespace. Versions for other processors start from here.
//
// Not plain loops over arrays: GCC turns these into shuffles through memory, which take ten times as long.

struct Vector;

using FloatLanes = float __attribute__((vector_size(16)));
using SignedLanes = int32_t __attribute__((vector_size(16)));
using BitLanes = uint32_t __attribute__((vector_size(16)));

// Lanes of another type with the same bits.
template <class To, class From>
inline To same_bits(From lanes) {
  static_assert(sizeof(To) == sizeof(From));
  return reinterpret_cast<To>(lanes);
}

// 4 elements of memory as lanes of 32 bits.
template <class Lanes, class Stored>
inline Lanes load_lanes(const Stored* p) {
  if constexpr (sizeof(Stored) == 1) {
    // GCC converts vectors of so few bytes one by one.
    uint32_t word;
    std::memcpy(&word, p, sizeof word);
    uint64_t halves = word;
    halves = (halves | halves << 16) & 0x0000ffff0000ffffu;
    halves = (halves | halves << 8) & 0x00ff00ff00ff00ffu;
    const auto bytes = load_lanes<BitLanes>(std::bit_cast<std::array<uint16_t, 4>>(halves).data());
    if constexpr (std::is_unsigned_v<Stored>) return same_bits<Lanes>(bytes);
    return same_bits<Lanes>(same_bits<SignedLanes>(bytes << 24) >> 24);
  } else {
    Stored __attribute__((vector_size(4 * sizeof(Stored)))) stored;
    std::memcpy(&stored, p, sizeof stored);
    return __builtin_convertvector(stored, Lanes);
  }
}

// Per lane: where the mask has ones, otherwise where it has zeros.
inline BitLanes select_bits(BitLanes mask, BitLanes ones, BitLanes zeros) { return (mask & ones) | (~mask & zeros); }

// 4 words of bits.
struct Words {
  BitLanes v;

  static Words load(const char* p) {
    Words words;
    std::memcpy(&words.v, p, sizeof words.v);
    return words;
  }
  void store(char* p) const { std::memcpy(p, &v, sizeof v); }
  // Bfloat16 numbers whose exponents are added to, unless they are zero.
  Words numbers_with_exponents(Words added) const {
    using Halves = uint16_t __attribute__((vector_size(16)));
    const Halves numbers = same_bits<Halves>(v);
    const Halves not_zero = same_bits<Halves>((numbers & 0x7fff) != 0);
    return {same_bits<BitLanes>(numbers + (same_bits<Halves>(added.v) & not_zero))};
  }
  // Less `byte` in every byte.
  Words bytes_lowered(int byte) const {
    using Bytes = uint8_t __attribute__((vector_size(16)));
    return {same_bits<BitLanes>(same_bits<Bytes>(v) - static_cast<uint8_t>(byte))};
  }
  // Half words, filled up with zeros.
  static Words load_halves(const char* p) {
    uint16_t halves[4];
    std::memcpy(halves, p, sizeof halves);
    return {load_lanes<BitLanes>(halves)};
  }
  // Integers of a byte.
  template <class Byte>
  static Words load_bytes(const Byte* p) {
    return {same_bits<BitLanes>(load_lanes<SignedLanes>(p))};
  }
  // The same in both halves of a word.
  template <class Byte>
  static Words load_doubled(const Byte* p) {
    const BitLanes integers = load_bytes(p).v;
    return {(integers & 0xffffu) | integers << 16};
  }
  // The lower words of products.
  Words times(Words other) const { return {v * other.v}; }
  // Shifted to the left, or to the right if n is negative.
  template <int n>
  Words shifted() const {
    return {n >= 0 ? v << (n < 0 ? 0 : n) : v >> (n < 0 ? -n : 0)};
  }
  // Integers of a float's precision, and back.
  static Words integers(Vector values);
  // The bits of numbers, and back.
  static Words of(Vector values);
  Vector number() const;
  Vector as_float() const;
  static Words broadcast(int32_t word) { return {BitLanes{} + static_cast<uint32_t>(word)}; }
  Words plus(Words other) const { return {v + other.v}; }
  Words minus(Words other) const { return {v - other.v}; }
  Words masked(uint32_t mask) const { return {v & mask}; }
  Words flipped(uint32_t bits) const { return {v ^ bits}; }
  Words masked_and_flipped(uint32_t mask, uint32_t bits) const { return masked(mask).flipped(bits); }
  // For each byte, which is below 16, that byte of a table.
  Words bytes_of(const uint8_t* table) const {
    uint8_t bytes[sizeof v];
    store(reinterpret_cast<char*>(bytes));
    for (uint8_t& byte : bytes) byte = table[byte];
    return load(reinterpret_cast<const char*>(bytes));
  }
  Words with(Words other) const { return {v | other.v}; }
  // These bits where the mask has ones, the other's elsewhere.
  Words under(uint32_t mask, Words other) const { return {(v & mask) | (other.v & ~mask)}; }
};

// Bytes of 8 columns at four consecutive k, row after row, as words of the columns: k in the order 0, 2, 1, 3.
inline void load_quads(const char* p, Words (&w)[2]) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(p);
  for (int j = 0; j < 2; ++j, bytes += 4) {
    const auto at_k = [&](int k) { return load_lanes<BitLanes>(bytes + 8 * k); };
    w[j] = {at_k(0) | at_k(2) << 8 | at_k(1) << 16 | at_k(3) << 24};
  }
}

// See integer_tiles.h.
struct ByteProducts {
  static constexpr bool signed_bytes = false, multiplies_pairs = false;
  template <int largest>
  static constexpr int at_once = 1;
  // Unsigned bytes of w times signed ones of x. A product fits in a half word, the sum of two does not.
  template <int largest>
  static Words add(Words sum, const Words (&w)[1], const Words (&x)[1]) {
    using Halves = int16_t __attribute__((vector_size(16)));
    const Halves weights = same_bits<Halves>(w[0].v), factors = same_bits<Halves>(x[0].v);
    const Halves even = (weights & 0xff) * (factors << 8 >> 8);
    const Halves odd = same_bits<Halves>(w[0].v >> 8 & 0x00ff00ffu) * (factors >> 8);
    const SignedLanes pairs[] = {same_bits<SignedLanes>(even), same_bits<SignedLanes>(odd)};
    SignedLanes total = same_bits<SignedLanes>(sum.v);
    for (const SignedLanes pair : pairs) {
      total += same_bits<SignedLanes>(same_bits<BitLanes>(pair) << 16) >> 16;
      total += pair >> 16;
    }
    return {same_bits<BitLanes>(total)};
  }
};

struct Vector {
  static constexpr int width = 4;
  FloatLanes v;

  template <class Function>
  static Vector map(Function function) {
    return {FloatLanes{function(0), function(1), function(2), function(3)}};
  }

  static Vector zero() { return {FloatLanes{}}; }
  static Vector broadcast(float x) { return {FloatLanes{x, x, x, x}}; }
  static Vector load(const float* p) {
    Vector vector;
    std::memcpy(&vector.v, p, sizeof vector.v);
    return vector;
  }
  // The first `count` lanes, or all lanes if there are more; the others come from `rest`.
  static Vector load_first(const float* p, int64_t count, Vector rest) {
    if (count >= width) return load(p);
    return map([&](int i) { return i < count ? p[i] : rest.v[i]; });
  }
  void store_first(float* p, int64_t count) const {
    for (int i = 0; i < width && i < count; ++i) p[i] = v[i];
  }
  static Vector load(const f16* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  static Vector load(const bf16* p) { return {same_bits<FloatLanes>(load_lanes<BitLanes>(&p->bits) << 16)}; }
  static Vector load(const uint8_t* p) { return {__builtin_convertvector(load_lanes<SignedLanes>(p), FloatLanes)}; }
  static Vector load(const int8_t* p) { return {__builtin_convertvector(load_lanes<SignedLanes>(p), FloatLanes)}; }
  // E4M3 numbers times 2^-8. Never NaN.
  static Vector load_e4m3(const uint8_t* p) {
    const SignedLanes codes = load_lanes<SignedLanes>(p), magnitudes = codes & 0x7f;
    const Vector subnormal{__builtin_convertvector(magnitudes, FloatLanes) * 0x1p-17f};
    const Vector normal{same_bits<FloatLanes>((magnitudes << 20) + (112 << 23))};
    const BitLanes signs = same_bits<BitLanes>(codes & 0x80) << 24;
    return Words{Words::of(select(magnitudes < 8, subnormal, normal)).v | signs}.number();
  }
  // E8M0 numbers. Never NaN.
  static Vector load_e8m0(const uint8_t* p) {
    const BitLanes bits = load_lanes<BitLanes>(p) << 23, least = BitLanes{} + 0x400000u;
    return {same_bits<FloatLanes>(select_bits(same_bits<BitLanes>(bits > least), bits, least))};
  }
  // The signed integers in `bits` bits from `position` on.
  template <int bits, int position>
  static Vector field(Words words) {
    const SignedLanes top = same_bits<SignedLanes>(words.shifted<32 - bits - position>().v);
    return {__builtin_convertvector(top >> (32 - bits), FloatLanes)};
  }
  // The lower and the upper four bits of each of 4 bytes.
  static void load_nibbles(const uint8_t* p, Vector& low, Vector& high) {
    const SignedLanes bytes = load_lanes<SignedLanes>(p);
    low = {__builtin_convertvector(bytes & 0xf, FloatLanes)};
    high = {__builtin_convertvector(bytes >> 4, FloatLanes)};
  }
  // The elements at even and odd k of 4 columns that are stored as pairs.
  static Vector load_even(const bf16* p) { return load_pairs(p).shifted<16>().number(); }
  static Vector load_odd(const bf16* p) { return load_pairs(p).masked(0xffff0000u).number(); }
  static Words load_pairs(const bf16* p) { return Words::load(reinterpret_cast<const char*>(p)); }
  void store(float* p) const { std::memcpy(p, &v, sizeof v); }
  void stream(float* p) const { store(p); }
  static void end_streams() {}
  template <class Half>
  void store(Half* p) const {
    for (int i = 0; i < 4; ++i) p[i] = Half(v[i]);
  }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) { return {a.v * b.v + c.v}; }
  static Vector select(SignedLanes mask, Vector a, Vector b) {
    const BitLanes bits = select_bits(same_bits<BitLanes>(mask), same_bits<BitLanes>(a.v), same_bits<BitLanes>(b.v));
    return {same_bits<FloatLanes>(bits)};
  }
  // NaN in b stays NaN.
  static Vector max(Vector a, Vector b) { return select(a.v > b.v, a, b); }
  static Vector min(Vector a, Vector b) { return select(a.v < b.v, a, b); }
  Vector abs() const { return Words::of(*this).masked(0x7fffffffu).number(); }
  Vector sqrt() const {
    return map([&](int i) { return std::sqrt(v[i]); });
  }
  // For |x| < 2^22: the sum has no room for a fraction.
  Vector round() const { return {(v + 0x1.8p23f) - 0x1.8p23f}; }
  // v * 2^n for an integral n, where both v and the result are normal. Avoids the undefined conversion of NaN.
  Vector times_exp2(Vector n) const {
    const Vector exponent = select(n.v >= -126.0f, n, zero());
    const BitLanes added = same_bits<BitLanes>(__builtin_convertvector(exponent.v, SignedLanes)) << 23;
    return {same_bits<FloatLanes>(same_bits<BitLanes>(v) + added)};
  }
  // One bit for every lane that is at least the bar; never for NaN.
  uint32_t at_least(Vector bar) const {
    const BitLanes bits = same_bits<BitLanes>(v >= bar.v) & BitLanes{1, 2, 4, 8};
    return (bits[0] | bits[1]) | (bits[2] | bits[3]);
  }
  // Interleaves the lanes of a and b.
  static void zip(Vector a, Vector b, Vector& first, Vector& second) {
    first = {FloatLanes{a.v[0], b.v[0], a.v[1], b.v[1]}};
    second = {FloatLanes{a.v[2], b.v[2], a.v[3], b.v[3]}};
  }
  // The largest lane; no lane may be NaN.
  float largest() const { return std::max(std::max(v[0], v[2]), std::max(v[1], v[3])); }
  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }
  // Per lane: x where x is NaN, otherwise y.
  static Vector select_nan(Vector x, Vector y) { return select(x.v != x.v, x, y); }
  // Per lane: a where x < 0, otherwise b.
  static Vector select_negative(Vector x, Vector a, Vector b) { return select(x.v < 0.0f, a, b); }
};

// Whether codes in both halves of words are looked up at once.
constexpr bool kLooksUpPairs = false;
template <int bits>
struct PairTable;

// 16 numbers, looked up by four bits.
struct Table {
  // Whether looking up is faster than computing integers.
  static constexpr bool fast = false;
  using Bytes = void;
  const float* values;

  explicit Table(const float* p) : values(p) {}
  template <int position>
  Vector at(Words words) const {
    const BitLanes index = words.shifted<-position>().v & 0xf;
    return Vector::map([&](int i) { return values[index[i]]; });
  }
};

inline Words Words::of(Vector values) { return {same_bits<BitLanes>(values.v)}; }
inline Vector Words::number() const { return {same_bits<FloatLanes>(v)}; }
inline Words Words::integers(Vector values) {
  const auto integer = [&](int i) { return static_cast<uint32_t>(std::lrint(values.v[i])); };
  return {BitLanes{integer(0), integer(1), integer(2), integer(3)}};
}
inline Vector Words::as_float() const { return {__builtin_convertvector(same_bits<SignedLanes>(v), FloatLanes)}; }

inline Vector operator+(Vector a, Vector b) { return {a.v + b.v}; }
inline Vector operator-(Vector a, Vector b) { return {a.v - b.v}; }
inline Vector operator*(Vector a, Vector b) { return {a.v * b.v}; }
inline Vector operator/(Vector a, Vector b) { return {a.v / b.v}; }

// Keys with their indices; see top_k.h.
struct Ranked {
  static constexpr int width = 1;
  int64_t v;

  static Ranked load(const int64_t* keyed) { return {ranked(*keyed)}; }
  void store(int64_t* p) const { *p = v; }
  static Ranked max(Ranked a, Ranked b) { return {std::max(a.v, b.v)}; }
  static Ranked min(Ranked a, Ranked b) { return {std::min(a.v, b.v)}; }
};
