// 4 float32 lanes in plain C++, which compilers turn into whatever vectors the target has. Included inside the portable
// namespace. Versions for other processors start from here.

struct Vector;

// 4 words of bits.
struct Words {
  uint32_t v[4];

  template <class Function>
  static Words map(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }

  static Words load(const char* p) {
    Words words;
    std::memcpy(words.v, p, sizeof words.v);
    return words;
  }
  void store(char* p) const { std::memcpy(p, v, sizeof v); }
  // Bfloat16 numbers whose exponents are added to, unless they are zero.
  Words numbers_with_exponents(const Words& added) const {
    return map([&](int i) {
      const uint32_t low = (v[i] & 0x7fffu) == 0 ? 0 : added.v[i] & 0xffffu;
      const uint32_t high = (v[i] & 0x7fff0000u) == 0 ? 0 : added.v[i] & 0xffff0000u;
      return (((v[i] & 0xffffu) + low) & 0xffffu) | ((v[i] & 0xffff0000u) + high);
    });
  }
  // Less `byte` in every byte.
  Words bytes_lowered(int byte) const {
    uint8_t bytes[sizeof v];
    std::memcpy(bytes, v, sizeof v);
    for (uint8_t& each : bytes) each = static_cast<uint8_t>(each - byte);
    return load(reinterpret_cast<const char*>(bytes));
  }
  // Half words, filled up with zeros.
  static Words load_halves(const char* p) {
    uint16_t halves[4];
    std::memcpy(halves, p, sizeof halves);
    return {{halves[0], halves[1], halves[2], halves[3]}};
  }
  // Integers of a byte.
  template <class Byte>
  static Words load_bytes(const Byte* p) {
    return map([p](int i) { return static_cast<uint32_t>(int32_t{p[i]}); });
  }
  // The same in both halves of a word.
  template <class Byte>
  static Words load_doubled(const Byte* p) {
    return map([p](int i) { return 0x10001u * uint16_t(int16_t{p[i]}); });
  }
  // The lower words of products.
  Words times(const Words& other) const {
    return map([&](int i) { return v[i] * other.v[i]; });
  }
  // Shifted to the left, or to the right if n is negative.
  template <int n>
  Words shifted() const {
    Words words;
    for (int i = 0; i < 4; ++i) words.v[i] = n >= 0 ? v[i] << (n < 0 ? 0 : n) : v[i] >> (n < 0 ? -n : 0);
    return words;
  }
  // Integers of a float's precision, and back.
  static Words integers(const Vector& values);
  // The bits of numbers, and back.
  static Words of(const Vector& values);
  Vector number() const;
  Vector as_float() const;
  static Words broadcast(int32_t word) {
    return map([word](int) { return static_cast<uint32_t>(word); });
  }
  Words plus(const Words& other) const {
    return map([&](int i) { return v[i] + other.v[i]; });
  }
  Words minus(const Words& other) const {
    return map([&](int i) { return v[i] - other.v[i]; });
  }
  // (v & mask) ^ flip
  Words masked_and_flipped(uint32_t mask, uint32_t flip) const {
    return map([&](int i) { return (v[i] & mask) ^ flip; });
  }
  uint32_t byte(int i, int at) const { return v[i] >> 8 * at & 0xffu; }
  // For each byte, which is below 16, that byte of a table.
  Words bytes_of(const uint8_t* table) const {
    return map([&](int i) {
      uint32_t word = 0;
      for (int at = 0; at < 4; ++at) word |= uint32_t{table[byte(i, at)]} << 8 * at;
      return word;
    });
  }
  Words with(const Words& other) const {
    Words words;
    for (int i = 0; i < 4; ++i) words.v[i] = v[i] | other.v[i];
    return words;
  }
  // These bits where the mask has ones, the other's elsewhere.
  Words under(uint32_t mask, const Words& other) const {
    Words words;
    for (int i = 0; i < 4; ++i) words.v[i] = (v[i] & mask) | (other.v[i] & ~mask);
    return words;
  }
};

// Bytes of 8 columns at four consecutive k, row after row, as words of the columns: k in the order 0, 2, 1, 3.
inline void load_quads(const char* p, Words (&w)[2]) {
  constexpr int kOrder[] = {0, 2, 1, 3};
  for (int column = 0; column < 8; ++column) {
    uint32_t word = 0;
    for (int at = 0; at < 4; ++at) word |= uint32_t{static_cast<uint8_t>(p[8 * kOrder[at] + column])} << 8 * at;
    w[column / 4].v[column % 4] = word;
  }
}

// See integer_tiles.h.
struct ByteProducts {
  static constexpr bool signed_bytes = false, multiplies_pairs = false;
  template <int largest>
  static constexpr int at_once = 1;
  template <int largest>
  static Words add(const Words& sum, const Words (&w)[1], const Words (&x)[1]) {
    return Words::map([&](int i) {
      uint32_t total = sum.v[i];
      for (int at = 0; at < 4; ++at) {
        const int32_t factor = static_cast<int8_t>(x[0].byte(i, at));
        total += static_cast<uint32_t>(static_cast<int32_t>(w[0].byte(i, at)) * factor);
      }
      return total;
    });
  }
};

struct Vector {
  static constexpr int width = 4;
  float v[4];

  template <class Function>
  static Vector map(Function function) {
    return {{function(0), function(1), function(2), function(3)}};
  }

  static Vector zero() { return {{0, 0, 0, 0}}; }
  static Vector broadcast(float x) { return {{x, x, x, x}}; }
  static Vector load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
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
  static Vector load(const bf16* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  static Vector load(const uint8_t* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  static Vector load(const int8_t* p) {
    return map([p](int i) { return static_cast<float>(p[i]); });
  }
  // E4M3 numbers times 2^-8: the bits of half-precision numbers. Never NaN.
  static Vector load_e4m3(const uint8_t* p) {
    return map([p](int i) {
      f16 half;
      half.bits = static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7);
      return static_cast<float>(half);
    });
  }
  // E8M0 numbers. Never NaN.
  static Vector load_e8m0(const uint8_t* p) {
    return map([p](int i) { return float_from_bits(std::max(uint32_t{p[i]} << 23, uint32_t{0x400000})); });
  }
  // The signed integers in `bits` bits from `position` on.
  template <int bits, int position>
  static Vector field(const Words& words) {
    const Words top = words.shifted<32 - bits - position>();
    return map([&](int i) { return static_cast<float>(static_cast<int32_t>(top.v[i]) >> (32 - bits)); });
  }
  // The lower and the upper four bits of each of 4 bytes.
  static void load_nibbles(const uint8_t* p, Vector& low, Vector& high) {
    low = map([p](int i) { return static_cast<float>(p[i] & 0xf); });
    high = map([p](int i) { return static_cast<float>(p[i] >> 4); });
  }
  // The elements at even and odd k of 4 columns that are stored as pairs.
  static Vector load_even(const bf16* p) {
    return map([p](int i) { return static_cast<float>(p[2 * i]); });
  }
  static Vector load_odd(const bf16* p) {
    return map([p](int i) { return static_cast<float>(p[2 * i + 1]); });
  }
  void store(float* p) const {
    for (int i = 0; i < 4; ++i) p[i] = v[i];
  }
  void stream(float* p) const { store(p); }
  static void end_streams() {}
  template <class Half>
  void store(Half* p) const {
    for (int i = 0; i < 4; ++i) p[i] = Half(v[i]);
  }

  // a * b + c
  static Vector fma(Vector a, Vector b, Vector c) {
    return Vector::map([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  // NaN in b stays NaN.
  static Vector max(Vector a, Vector b) {
    return Vector::map([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static Vector min(Vector a, Vector b) {
    return Vector::map([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  Vector abs() const {
    return map([&](int i) { return std::fabs(v[i]); });
  }
  Vector sqrt() const {
    return map([&](int i) { return std::sqrt(v[i]); });
  }
  // For |x| < 2^22: the sum has no room for a fraction.
  Vector round() const {
    return map([&](int i) { return (v[i] + 0x1.8p23f) - 0x1.8p23f; });
  }
  // v * 2^n for an integral n, where both v and the result are normal. Avoids the undefined conversion of NaN.
  Vector times_exp2(const Vector& n) const {
    return map([&](int i) {
      const float exponent = n.v[i] >= -126.0f ? n.v[i] : 0.0f;
      return float_from_bits(float_bits(v[i]) + (static_cast<uint32_t>(static_cast<int32_t>(exponent)) << 23));
    });
  }
  // One bit for every lane that is at least the bar; never for NaN.
  uint32_t at_least(const Vector& bar) const {
    uint32_t bits = 0;
    for (int i = 0; i < width; ++i) bits |= static_cast<uint32_t>(v[i] >= bar.v[i]) << i;
    return bits;
  }
  // Interleaves the lanes of a and b.
  static void zip(const Vector& a, const Vector& b, Vector& first, Vector& second) {
    first = {{a.v[0], b.v[0], a.v[1], b.v[1]}};
    second = {{a.v[2], b.v[2], a.v[3], b.v[3]}};
  }
  // The largest lane; no lane may be NaN.
  float largest() const { return std::max(std::max(v[0], v[2]), std::max(v[1], v[3])); }
  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }
  // Per lane: x where x is NaN, otherwise y.
  static Vector select_nan(Vector x, Vector y) {
    return map([&](int i) { return x.v[i] != x.v[i] ? x.v[i] : y.v[i]; });
  }
  // Per lane: a where x < 0, otherwise b.
  static Vector select_negative(Vector x, Vector a, Vector b) {
    return map([&](int i) { return x.v[i] < 0 ? a.v[i] : b.v[i]; });
  }
};

// Whether codes in both halves of words are looked up at once.
constexpr bool kLooksUpPairs = false;
template <int bits>
struct PairTable;

// 16 numbers, looked up by four bits.
struct Table {
  // Whether looking up is faster than computing integers.
  static constexpr bool fast = true;
  using Bytes = void;
  const float* values;

  explicit Table(const float* p) : values(p) {}
  template <int position>
  Vector at(const Words& words) const {
    return Vector::map([&](int i) { return values[words.v[i] >> position & 0xf]; });
  }
};

inline Words Words::of(const Vector& values) {
  Words words;
  std::memcpy(words.v, values.v, sizeof words.v);
  return words;
}
inline Vector Words::number() const {
  Vector values;
  std::memcpy(values.v, v, sizeof values.v);
  return values;
}
inline Words Words::integers(const Vector& values) {
  return map([&](int i) { return static_cast<uint32_t>(std::lrint(values.v[i])); });
}
inline Vector Words::as_float() const {
  return Vector::map([&](int i) { return static_cast<float>(static_cast<int32_t>(v[i])); });
}

inline Vector operator+(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vector operator-(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vector operator*(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vector operator/(Vector a, Vector b) {
  return Vector::map([&](int i) { return a.v[i] / b.v[i]; });
}

// Keys with their indices; see top_k.h.
struct Ranked {
  static constexpr int width = 1;
  int64_t v;

  static Ranked load(const int64_t* keyed) { return {ranked(*keyed)}; }
  void store(int64_t* p) const { *p = v; }
  static Ranked max(Ranked a, Ranked b) { return {std::max(a.v, b.v)}; }
  static Ranked min(Ranked a, Ranked b) { return {std::min(a.v, b.v)}; }
};
