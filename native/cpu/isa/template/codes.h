// How the codes of quantised weights are read from panels. See kernels.h here, and cpu/gemm/panel_codes.h for the
// panels.
//
// A class of codes reads `chunk` consecutive k of a unit at once, as the Bits of each vector of columns, and takes the
// values of each k from these.

// Word `index` of each column of a plane.
template <int index>
inline void load_plane(const char* plane, Words (&words)[kPanelVectors]) {
#pragma GCC unroll 2
  for (int j = 0; j < kPanelVectors; ++j) words[j] = Words::load(plane + 4 * (index * kPanelColumns + j * kWidth));
}

// Codes of 2 or 4 bits, which fill the fields of words.
template <int bits_>
struct FieldCodes {
  static constexpr int bits = bits_;
  static constexpr int chunk = 32 / bits;
  using Bits = Words;

  explicit FieldCodes(const PanelScales&) {}
  template <int first>
  void load(const char* unit, Bits (&words)[kPanelVectors]) const {
    load_plane<first / chunk>(unit, words);
  }
  template <int k>
  static constexpr int position = plane_bit(bits, k) % 32;
};
// Those that are integers.
template <int bits>
struct FieldIntegers : FieldCodes<bits> {
  static_assert(packed_unsigned(bits));
  using FieldCodes<bits>::FieldCodes;

  template <int first>
  void load(const char* unit, Words (&words)[kPanelVectors]) const {
    constexpr uint32_t kHighest = (~0u / ((1u << bits) - 1u)) << (bits - 1);
    FieldCodes<bits>::template load<first>(unit, words);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) words[j] = words[j].flipped(kHighest);
  }
  template <int k>
  Vector value(const Words& words) const {
    return Vector::field<bits, FieldCodes<bits>::template position<k>>(words);
  }
};

// Codes of 4 bits that stand for integers. Four at a time are looked up in the bytes of a word.
template <class Bytes>
struct ByteTableCodes {
  static constexpr int bits = 4;
  static constexpr int chunk = 8;
  struct Bits {
    Words first, last;  // four k each
  };

  explicit ByteTableCodes(const PanelScales& scales) : table(scales.table) {}
  template <int first>
  void load(const char* unit, Bits (&found)[kPanelVectors]) const {
    Words words[kPanelVectors];
    load_plane<first / chunk>(unit, words);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) found[j] = {table.at(words[j]), table.at(words[j].template shifted<-4>())};
  }
  template <int k>
  Vector value(const Bits& found) const {
    return Vector::field<8, plane_bit(bits, k % 4)>(k % chunk < 4 ? found.first : found.last);
  }

  Bytes table;
};

// Integers cut into two planes: codes of 3, 5 or 6 bits. A word gets four of them, from bit `bit` of its bytes on; its
// other bits are any.
template <int bits_, int bit>
struct PlaneCodes {
  static constexpr int bits = bits_;
  static constexpr int chunk = 4;
  using Bits = Words;

  explicit PlaneCodes(const PanelScales&) {}
  template <int first>
  void load(const char* unit, Bits (&words)[kPanelVectors]) const {
    constexpr int upper = upper_bits(bits), lower = bits - upper;
    constexpr int low = plane_bit(lower, first), high = plane_bit(upper, first);
    constexpr uint32_t kUpper = 0x01010101u * (((1u << upper) - 1u) << (bit + lower));
    const char* low_plane = unit + 4 * (low / 32 * kPanelColumns);
    const char* high_plane = unit + 2 * lower * kPanelColumns;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words low_bits = Words::load(low_plane + 4 * j * kWidth).shifted<bit - low % 32>();
      words[j] = high_words<upper>(high_plane, j).template shifted<bit + lower - high>().under(kUpper, low_bits);
    }
  }
  template <int k>
  static constexpr int position = plane_bit(4, k % 4) + bit;
  template <int k>
  Vector value(const Bits& words) const {
    return Vector::field<bits, position<k>>(words);
  }

 private:
  // With all bits of a quad in each byte.
  template <int upper>
  static Words high_words(const char* plane, int j) {
    if constexpr (upper == 2) return Words::load(plane + 4 * j * kWidth);
    const Words half = Words::load_halves(plane + 2 * j * kWidth);
    return half.with(half.shifted<12>());
  }
};

// Codes that are looked up.
template <class Codes>
struct TableCodes : Codes {
  explicit TableCodes(const PanelScales& scales) : Codes(scales), table(scales.table) {}
  template <int k>
  Vector value(const typename Codes::Bits& words) const {
    return table.at<Codes::template position<k>>(words);
  }

  Table table;
};

// Codes whose values bfloat16 holds, looked up for two consecutive k at once.
template <class Codes>
struct LookedUpCodes : Codes {
  using typename Codes::Bits;
  using Table = PairTable<Codes::bits>;

  explicit LookedUpCodes(const PanelScales& scales) : Codes(scales), table(values(scales)) {}
  // As pairs of bfloat16, of k and k + 1; k is even.
  template <int k>
  Words pair(const Bits& words) const {
    return table.at(words.template halves_shifted<Codes::template position<k>>());
  }
  template <int k>
  Vector value(const Bits& words) const {
    const auto both = table.at(words.template halves_shifted<Codes::template position<k / 2 * 2>>());
    return k % 2 == 0 ? both.even() : both.odd();
  }

 private:
  static std::array<uint16_t, Table::size> values(const PanelScales& scales) {
    std::array<uint16_t, Table::size> halves;
    for (int i = 0; i < Table::size; ++i) {
      halves[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(scales.table[i]) >> 16);
    }
    return halves;
  }

  Table table;
};

// Where they take the fewest shifts: signed integers end with their bytes, indices of tables begin with them.
template <int bits>
using PlacedIntegers = std::conditional_t<upper_bits(bits) == 0, FieldIntegers<bits>, PlaneCodes<bits, 8 - bits>>;
template <int bits>
using PlacedIndices = std::conditional_t<upper_bits(bits) == 0, FieldCodes<bits>, PlaneCodes<bits, 0>>;
using NibbleCodes = TableCodes<PlacedIndices<4>>;
template <int bits>
using IntegerCodes =
    std::conditional_t<bits == 4 && Table::fast, NibbleCodes,
                       std::conditional_t<kLooksUpPairs, LookedUpCodes<PlacedIndices<bits>>, PlacedIntegers<bits>>>;
using IntegerTableCodes = std::conditional_t<std::is_void_v<Table::Bytes>, NibbleCodes, ByteTableCodes<Table::Bytes>>;
using NarrowTableCodes = std::conditional_t<kLooksUpPairs, IntegerCodes<3>, TableCodes<PlacedIndices<3>>>;

// Codes of whole bytes.
template <class Stored, Vector (*load_values)(const Stored*)>
struct WholeCodes {
  static constexpr int bits = 8 * sizeof(Stored);
  static constexpr int chunk = 8;
  using Bits = const Stored*;

  explicit WholeCodes(const PanelScales&) {}
  template <int first>
  void load(const char* unit, Bits (&codes)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) codes[j] = reinterpret_cast<Bits>(unit) + j * kWidth;
  }
  template <int k>
  Vector value(const Bits& codes) const {
    return load_values(codes + k * kPanelColumns);
  }
};

using ByteCodes = WholeCodes<int8_t, Vector::load>;
using E4M3Codes = WholeCodes<uint8_t, Vector::load_e4m3>;

// The values of two consecutive k, which bfloat16 holds, made one pair.
template <class Codes>
struct PairsOf : Codes {
  using Codes::Codes;

  template <int k>
  Words pair(const typename Codes::Bits& bits) const {
    const Words even = Words::of(this->template value<k>(bits)), odd = Words::of(this->template value<k + 1>(bits));
    return odd.under(0xffff0000u, even.template shifted<-16>());
  }
};
