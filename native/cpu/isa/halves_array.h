// Halves of words, one for each column of a panel, for instruction sets whose compilers do well with loops. Included
// after a Vector header, inside an instruction set's namespace and target region.

template <int columns>
struct HalvesOf {
  static HalvesOf load_bytes(const char* from) {
    return each([&](int i) { return static_cast<uint8_t>(from[i]); });
  }
  static HalvesOf load(const char* from) {
    HalvesOf halves;
    std::memcpy(halves.v, from, sizeof halves.v);
    return halves;
  }
  void store(char* to) const { std::memcpy(to, v, sizeof v); }
  // As the lower and upper halves of words.
  static void store_words(const HalvesOf& low, const HalvesOf& high, char* to) {
    uint32_t words[columns];
    for (int i = 0; i < columns; ++i) words[i] = low.v[i] | static_cast<uint32_t>(high.v[i]) << 16;
    std::memcpy(to, words, sizeof words);
  }
  // To the left.
  template <int by>
  HalvesOf shifted() const {
    return each([&](int i) { return by >= 0 ? v[i] << std::max(by, 0) : v[i] >> std::max(-by, 0); });
  }
  HalvesOf masked(int mask) const {
    return each([&](int i) { return v[i] & mask; });
  }
  HalvesOf with(const HalvesOf& other) const {
    return each([&](int i) { return v[i] | other.v[i]; });
  }
  // The highest bit, as all bits.
  HalvesOf sign() const {
    return each([&](int i) { return static_cast<int16_t>(v[i]) >> 15; });
  }
  // The entries of a table with 2^bits entries.
  template <int bits>
  HalvesOf found_in(const uint16_t* table) const {
    return each([&](int i) { return table[v[i]]; });
  }

  uint16_t v[columns];

 private:
  template <class Value>
  static HalvesOf each(Value&& value) {
    HalvesOf halves;
    for (int i = 0; i < columns; ++i) halves.v[i] = static_cast<uint16_t>(value(i));
    return halves;
  }
};
