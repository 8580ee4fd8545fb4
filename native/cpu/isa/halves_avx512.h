// Halves of words, one for each column of a panel. Included after vector_avx512.h, inside an instruction set's
// namespace and target region.

template <int columns>
struct HalvesOf {
  static_assert(columns == 32);

  static HalvesOf load_bytes(const char* from) {
    return {_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))};
  }
  static HalvesOf load(const char* from) { return {_mm512_loadu_si512(from)}; }
  void store(char* to) const { _mm512_storeu_si512(to, v); }
  // As the lower and upper halves of words.
  static void store_words(HalvesOf low, HalvesOf high, char* to) {
    // Instructions that interleave work within lanes.
    const __m512i first = _mm512_unpacklo_epi16(low.v, high.v), second = _mm512_unpackhi_epi16(low.v, high.v);
    const __m512i below = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11),
                  above = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi64(first, below, second));
    _mm512_storeu_si512(to + 64, _mm512_permutex2var_epi64(first, above, second));
  }
  // To the left.
  template <int by>
  HalvesOf shifted() const {
    if constexpr (by == 0) return *this;
    return {by > 0 ? _mm512_slli_epi16(v, by > 0 ? by : 0) : _mm512_srli_epi16(v, by < 0 ? -by : 0)};
  }
  HalvesOf masked(int mask) const { return {_mm512_and_si512(v, _mm512_set1_epi16(static_cast<short>(mask)))}; }
  HalvesOf with(HalvesOf other) const { return {_mm512_or_si512(v, other.v)}; }
  // The highest bit, as all bits.
  HalvesOf sign() const { return {_mm512_srai_epi16(v, 15)}; }
  // The entries of a table with 2^bits entries, of which two registers hold 64.
  template <int bits>
  HalvesOf found_in(const uint16_t* table) const {
    return {find<bits>(table)};
  }

  __m512i v;

 private:
  template <int bits>
  __m512i find(const uint16_t* table) const {
    if constexpr (bits == 6) {
      return _mm512_permutex2var_epi16(_mm512_load_si512(table), v, _mm512_load_si512(table + 32));
    } else {
      const __mmask32 upper = _mm512_test_epi16_mask(v, _mm512_set1_epi16(1 << (bits - 1)));
      return _mm512_mask_mov_epi16(find<bits - 1>(table), upper, find<bits - 1>(table + (1 << (bits - 1))));
    }
  }
};
