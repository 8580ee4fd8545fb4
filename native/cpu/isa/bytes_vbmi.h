// Codes of a byte each, looked up with AVX-512 VBMI. Included after products.h, inside an instruction set's namespace
// and target region.

// Values that bfloat16 holds: both bytes of one are looked up by the code's magnitude; its sign is the code's first
// bit. Byte 16 * lane + i of a line, which has k and k + 1 of all columns, is first moved to where instructions that
// interleave lanes need it.
template <class Code, int (*moved_from)(int lane, int i)>
struct LookedUpBytes {
  static constexpr int bits = 8;
  static constexpr int chunk = 2;

  explicit LookedUpBytes(const PanelScales&) {}

 protected:
  // Values of the first and of the second half of each lane.
  struct Halves {
    __m512i first, second;
  };
  Halves look_up(const char* line) const {
    const __m512i codes = _mm512_permutexvar_epi8(order_, _mm512_loadu_si512(line));
    const __m512i magnitudes = Code::magnitudes(codes);
    const __m512i low = _mm512_permutex2var_epi8(low_[0], magnitudes, low_[1]);
    const __m512i unsigned_high =
        Code::with_largest(_mm512_permutex2var_epi8(high_[0], magnitudes, high_[1]), magnitudes);
    const __m512i high = _mm512_ternarylogic_epi32(unsigned_high, codes, _mm512_set1_epi8(-128), 0xf8);
    return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
  }

 private:
  static constexpr int kMagnitudes = 128;
  struct Tables {
    alignas(64) uint8_t low[kMagnitudes], high[kMagnitudes], order[64];
  };
  static const Tables& tables() {
    static const Tables made = [] {
      Tables tables;
      for (int i = 0; i < kMagnitudes; ++i) {
        const uint16_t value = std::bit_cast<uint16_t>(bf16(Code::value(i)));
        tables.low[i] = static_cast<uint8_t>(value & 0xff);
        tables.high[i] = static_cast<uint8_t>(value >> 8);
      }
      for (int i = 0; i < 64; ++i) tables.order[i] = static_cast<uint8_t>(moved_from(i / 16, i % 16));
      return tables;
    }();
    return made;
  }
  static __m512i from(const uint8_t* bytes) { return _mm512_load_si512(bytes); }

  const __m512i low_[2] = {from(tables().low), from(tables().low + 64)};
  const __m512i high_[2] = {from(tables().high), from(tables().high + 64)};
  const __m512i order_ = from(tables().order);
};

// As pairs of bfloat16 of k and k + 1. Halves of lanes have four columns of a vector.
constexpr int place_of_pairs(int lane, int i) { return i % 2 * kPanelColumns + i / 8 * kWidth + 4 * lane + i % 8 / 2; }

template <class Code>
struct BytePairs : LookedUpBytes<Code, place_of_pairs> {
  using Bits = Words;  // the pairs

  using LookedUpBytes<Code, place_of_pairs>::LookedUpBytes;
  template <int first>
  void load(const char* unit, Bits (&pairs)[kPanelVectors]) const {
    const auto halves = this->look_up(unit + first * kPanelColumns);
    pairs[0] = {halves.first};
    pairs[1] = {halves.second};
  }
  template <int k>
  static Words pair(const Bits& pair) {
    return pair;
  }
};

// As floats, whose upper halves are bfloat16 numbers. Halves of lanes have k or k + 1 of four columns of both vectors.
constexpr int place_of_floats(int lane, int i) { return i / 8 * kPanelColumns + i % 8 / 4 * kWidth + 4 * lane + i % 4; }

template <class Code>
struct ByteFloats : LookedUpBytes<Code, place_of_floats> {
  struct Bits {
    Vector values[2];  // of k and k + 1
  };

  using LookedUpBytes<Code, place_of_floats>::LookedUpBytes;
  template <int first>
  void load(const char* unit, Bits (&floats)[kPanelVectors]) const {
    const auto halves = this->look_up(unit + first * kPanelColumns);
    const __m512i zero = _mm512_setzero_si512();
    const auto store = [&](int k, __m512i values) {
      floats[0].values[k] = {_mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, values))};
      floats[1].values[k] = {_mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, values))};
    };
    store(0, halves.first);
    store(1, halves.second);
  }
  template <int k>
  static Vector value(const Bits& floats) {
    return floats.values[k % 2];
  }
};

// Lookups ignore the first bit of a byte.
struct SignedByte {
  static float value(int magnitude) { return static_cast<float>(magnitude); }
  static __m512i magnitudes(__m512i codes) { return _mm512_abs_epi8(codes); }
  // That of -128 is looked up as zero, whose lower byte is the same.
  static __m512i with_largest(__m512i high, __m512i magnitudes) {
    constexpr char kHigh = 0x43;
    return _mm512_mask_mov_epi8(high, _mm512_movepi8_mask(magnitudes), _mm512_set1_epi8(kHigh));
  }
};

// Times 2^-8, as Vector::load_e4m3 has it.
struct E4M3Byte {
  static float value(int magnitude) {
    const int exponent = magnitude >> 3, mantissa = magnitude & 7;
    return exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -17)
                         : std::ldexp(static_cast<float>(8 + mantissa), exponent - 18);
  }
  static __m512i magnitudes(__m512i codes) { return codes; }
  static __m512i with_largest(__m512i high, __m512i) { return high; }
};
