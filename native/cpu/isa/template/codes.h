// How the codes of quantised weights are read from panels. See kernels.h here, and cpu/gemm/panel_codes.h for the
// panels.
//
// A class of codes reads `chunk` consecutive k of a unit at once, as the Bits of each vector of columns, and takes the
// values of each k from these.

// Integers that fill the fields of words: codes of 2 or 4 bits.
template <int bits_>
struct FieldCodes {
  static constexpr int bits = bits_;
  static constexpr int chunk = 32 / bits;
  using Bits = Words;

  explicit FieldCodes(const PanelScales&) {}
  template <int first>
  static Bits load(const char* unit, int j) {
    return Words::load(unit + 4 * (first / chunk * kPanelColumns + j * kWidth));
  }
  template <int k>
  Vector value(const Bits& words) const {
    return Vector::field<bits, plane_bit(bits, k) % 32>(words);
  }
};

// Codes of 4 bits that are looked up.
struct TableCodes {
  static constexpr int bits = 4;
  static constexpr int chunk = FieldCodes<4>::chunk;
  using Bits = Words;

  explicit TableCodes(const PanelScales& scales) : table(scales.table) {}
  template <int first>
  static Bits load(const char* unit, int j) {
    return FieldCodes<4>::load<first>(unit, j);
  }
  template <int k>
  Vector value(const Bits& words) const {
    return table.at<plane_bit(bits, k) % 32>(words);
  }

  Table table;
};

using NibbleCodes = std::conditional_t<Table::fast, TableCodes, FieldCodes<4>>;

// Integers cut into two planes: codes of 3, 5 or 6 bits. A word gets four of them, at the top of its bytes.
template <int bits_>
struct PlaneCodes {
  static constexpr int bits = bits_;
  static constexpr int chunk = 4;
  using Bits = Words;

  explicit PlaneCodes(const PanelScales&) {}
  template <int first>
  static Bits load(const char* unit, int j) {
    constexpr int upper = upper_bits(bits), lower = bits - upper;
    constexpr int low = plane_bit(lower, first), high = plane_bit(upper, first);
    constexpr uint32_t kUpper = 0x01010101u * (0xff00u >> upper & 0xffu);
    const Words low_bits =
        Words::load(unit + 4 * (low / 32 * kPanelColumns + j * kWidth)).shifted<8 - bits - low % 32>();
    const char* plane = unit + 2 * lower * kPanelColumns;
    if constexpr (upper == 1) {
      const Words half = Words::load_halves(plane + 2 * j * kWidth);
      return half.with(half.shifted<12>()).shifted<7 - high>().under(kUpper, low_bits);
    } else {
      return Words::load(plane + 4 * j * kWidth).shifted<6 - high>().under(kUpper, low_bits);
    }
  }
  template <int k>
  Vector value(const Bits& words) const {
    return Vector::field<bits, plane_bit(4, k % 4) + 8 - bits>(words);
  }
};

// Codes of a byte each.
template <Vector (*load_values)(const char*)>
struct WholeCodes {
  static constexpr int bits = 8;
  static constexpr int chunk = 8;
  using Bits = const char*;

  explicit WholeCodes(const PanelScales&) {}
  template <int first>
  static Bits load(const char* unit, int j) {
    return unit + j * kWidth;
  }
  template <int k>
  Vector value(const Bits& bytes) const {
    return load_values(bytes + k * kPanelColumns);
  }
};

inline Vector load_integers(const char* p) { return Vector::load(reinterpret_cast<const int8_t*>(p)); }
inline Vector load_e4m3(const char* p) { return Vector::load_e4m3(reinterpret_cast<const uint8_t*>(p)); }
using ByteCodes = WholeCodes<load_integers>;
using E4M3Codes = WholeCodes<load_e4m3>;
