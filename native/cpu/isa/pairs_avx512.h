// E4M3 codes as pairs of bfloat16, with AVX-512. Included after products.h, inside an instruction set's namespace
// and target region.

// E4M3 numbers times 2^-8, as Vector::load_e4m3 has them: so normal ones get their exponent by an or.
struct E4M3PairCodes {
  static constexpr int bits = 8;
  static constexpr int chunk = 4;
  using Bits = Words;

  explicit E4M3PairCodes(const PanelScales&) {}
  template <int first>
  void load(const char* unit, Bits (&quads)[kPanelVectors]) const {
    load_quads(unit + first * kPanelColumns, quads);
  }
  // Quads have the bytes of k and k + 1 at the same places of both halves.
  template <int k>
  Words pair(const Bits& quads) const {
    constexpr bool upper = k % 4 == 2;
    const __m512i codes = quads.v;
    const __m512i top = upper ? codes : _mm512_slli_epi16(codes, 8);
    const __m512i placed = upper ? _mm512_srli_epi16(codes, 4) : _mm512_slli_epi16(codes, 4);
    const __m512i normal = _mm512_ternarylogic_epi32(placed, halves(0x07f0), halves(0x3800), 0xea);
    const __mmask32 subnormal = _mm512_testn_epi16_mask(codes, halves(upper ? 0x7800 : 0x0078));
    const __m512i index = upper ? _mm512_srli_epi16(codes, 8) : codes;
    const __m512i magnitude = _mm512_mask_permutexvar_epi16(normal, subnormal, index, subnormals.first);
    return {_mm512_ternarylogic_epi32(magnitude, top, halves(0x8000), 0xf8)};
  }

 private:
  static __m512i halves(int bits) { return _mm512_set1_epi16(static_cast<int16_t>(bits)); }
  static std::array<uint16_t, 32> subnormal_values() {
    std::array<uint16_t, 32> values;
    for (int i = 0; i < 32; ++i) values[i] = std::bit_cast<uint16_t>(bf16(static_cast<float>(i % 8) / (1 << 17)));
    return values;
  }

  // By their last three bits.
  const PairTable<5> subnormals{subnormal_values()};
};
