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
  Bits load(const char* unit, int j) const {
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
  static constexpr int chunk = 8;
  using Bits = Words;

  explicit TableCodes(const PanelScales& scales) : table(scales.table) {}
  template <int first>
  Bits load(const char* unit, int j) const {
    return Words::load(unit + 4 * (first / chunk * kPanelColumns + j * kWidth));
  }
  template <int k>
  Vector value(const Bits& words) const {
    return table.at<plane_bit(bits, k) % 32>(words);
  }

  Table table;
};

// The same for integers. Four at a time are looked up in the bytes of a word.
template <class Bytes>
struct ByteTableCodes {
  static constexpr int bits = 4;
  static constexpr int chunk = 8;
  struct Bits {
    Words first, last;  // four k each
  };

  explicit ByteTableCodes(const PanelScales& scales) : table(scales.table) {}
  template <int first>
  Bits load(const char* unit, int j) const {
    const Words words = Words::load(unit + 4 * (first / chunk * kPanelColumns + j * kWidth));
    return {table.at(words), table.at(words.shifted<-4>())};
  }
  template <int k>
  Vector value(const Bits& found) const {
    return Vector::field<8, plane_bit(bits, k % 4)>(k % chunk < 4 ? found.first : found.last);
  }

  Bytes table;
};

using NibbleCodes = std::conditional_t<Table::fast, TableCodes, FieldCodes<4>>;
using IntegerTableCodes = std::conditional_t<Table::fast, TableCodes, ByteTableCodes<Table::Bytes>>;

// Integers cut into two planes: codes of 3, 5 or 6 bits. A word gets four of them, at the top of its bytes.
template <int bits_>
struct PlaneCodes {
  static constexpr int bits = bits_;
  static constexpr int chunk = 4;
  using Bits = Words;

  explicit PlaneCodes(const PanelScales&) {}
  template <int first>
  Bits load(const char* unit, int j) const {
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
  Bits load(const char* unit, int j) const {
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
