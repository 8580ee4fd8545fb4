// Codes of a byte each as pairs of bfloat16, which holds their values, with AVX-512 VBMI. Included after products.h,
// inside an instruction set's namespace and target region.

// Both bytes of a value are looked up by the code's magnitude; its sign is the code's first bit.
template <class Code>
struct BytePairCodes {
  static constexpr int bits = 8;
  static constexpr int chunk = 2;
  using Bits = Words;  // the pairs

  explicit BytePairCodes(const PanelScales&) {}
  // A line of memory has k and k + 1 of all columns.
  template <int first>
  void load(const char* unit, Bits (&pairs)[kPanelVectors]) const {
    const __m512i codes = _mm512_loadu_si512(unit + first * kPanelColumns);
    const __m512i magnitudes = Code::magnitudes(codes);
    const __m512i low = _mm512_permutex2var_epi8(low_[0], magnitudes, low_[1]);
    const __m512i high = Code::with_largest(_mm512_permutex2var_epi8(high_[0], magnitudes, high_[1]), magnitudes);
    const __m512i signed_high = _mm512_ternarylogic_epi32(high, codes, _mm512_set1_epi8(-128), 0xf8);
    pairs[0] = {_mm512_permutex2var_epi8(low, places_[0], signed_high)};
    pairs[1] = {_mm512_permutex2var_epi8(low, places_[1], signed_high)};
  }
  template <int k>
  static Words pair(const Bits& pair) {
    return pair;
  }

 private:
  static constexpr int kMagnitudes = 128;
  struct Tables {
    alignas(64) uint8_t low[kMagnitudes], high[kMagnitudes], places[kPanelVectors][64];
  };
  static const Tables& tables() {
    static const Tables made = [] {
      Tables tables;
      for (int i = 0; i < kMagnitudes; ++i) {
        const uint16_t value = std::bit_cast<uint16_t>(bf16(Code::value(i)));
        tables.low[i] = static_cast<uint8_t>(value & 0xff);
        tables.high[i] = static_cast<uint8_t>(value >> 8);
      }
      for (int column = 0; column < kPanelColumns; ++column) {
        uint8_t* places = tables.places[column / kWidth] + column % kWidth * 4;
        for (int k = 0; k < 2; ++k) {
          places[2 * k] = static_cast<uint8_t>(k * kPanelColumns + column);
          places[2 * k + 1] = static_cast<uint8_t>(64 + k * kPanelColumns + column);
        }
      }
      return tables;
    }();
    return made;
  }
  static __m512i from(const uint8_t* bytes) { return _mm512_load_si512(bytes); }

  const __m512i low_[2] = {from(tables().low), from(tables().low + 64)};
  const __m512i high_[2] = {from(tables().high), from(tables().high + 64)};
  const __m512i places_[2] = {from(tables().places[0]), from(tables().places[1])};
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
