// How the codes of quantised weights become bytes, for products of integers. See kernels.h here, and
// cpu/gemm/panel_codes.h for the panels and the order of k within words.
//
// load<quad>() reads k 4 * quad .. 4 * quad + 3 of a unit, for both vectors of columns. A bias has been added to codes
// if it makes them unsigned.

constexpr int kAnyByte = 255;

// Integers that fill the fields of words: codes of 2 or 4 bits.
template <int bits_, int bias_ = 1 << (bits_ - 1)>
struct FieldQuads {
  static constexpr int bits = bits_;
  static constexpr int largest = (1 << bits) - 1;
  static constexpr int bias = bias_;

  explicit FieldQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    constexpr int place = plane_bit(bits, 4 * quad);
    constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1u);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      const Words words = Words::load(unit + 4 * (place / 32 * kPanelColumns + j * kWidth));
      w[j] = words.shifted<-(place % 32)>().masked_and_flipped(mask, 0x01010101u * bias);
    }
  }
};

// Integers cut into two planes: codes of 3, 5 or 6 bits.
template <int bits_, int bias_ = 1 << (bits_ - 1)>
struct PlaneQuads : PlaneCodes<bits_, 0> {
  static constexpr int bits = bits_;
  static constexpr int largest = (1 << bits) - 1;
  static constexpr int bias = bias_;

  using PlaneCodes<bits_, 0>::PlaneCodes;
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    constexpr uint32_t mask = 0x01010101u * ((1u << bits) - 1u);
    PlaneCodes<bits_, 0>::template load<4 * quad>(unit, w);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = w[j].masked_and_flipped(mask, 0x01010101u * bias);
  }
};

// Codes of a byte each.
template <bool signed_bytes>
struct ByteQuads {
  static constexpr int bits = 8;
  static constexpr int largest = kAnyByte;
  static constexpr int bias = signed_bytes ? 0 : 128;

  explicit ByteQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    load_quads(unit + 4 * quad * kPanelColumns, w);
    if constexpr (signed_bytes) return;
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = w[j].masked_and_flipped(~0u, 0x80808080u);
  }
};

// Codes that are looked up in a table of integers.
template <class Codes, int largest_, int bias_>
struct TableQuads : Codes {
  static constexpr int largest = largest_;
  static constexpr int bias = bias_;

  explicit TableQuads(const PanelScales& scales) : Codes(scales) {
    for (int i = 0; i < 16; ++i) table[i] = static_cast<uint8_t>(static_cast<int>(scales.table[i]) + bias);
  }
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
    Codes::template load<quad>(unit, w);
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = w[j].bytes_of(table);
  }

  alignas(16) uint8_t table[16];
};
// Magnitudes below 16 and below 64, whose sums with a bias are unsigned and small; and any.
using SmallTableQuads = TableQuads<FieldQuads<4, 0>, 31, 16>;
using NarrowTableQuads = TableQuads<PlaneQuads<3, 0>, 127, 64>;
template <bool signed_bytes>
using WideTableQuads = TableQuads<FieldQuads<4, 0>, kAnyByte, signed_bytes ? 0 : 128>;

// Bytes that are multiplied as they are: what unpack_bytes() leaves of codes.
template <int largest_, int bias_>
struct PlainQuads {
  static constexpr bool unpacked = true;
  static constexpr int bits = 8;
  static constexpr int largest = largest_;
  static constexpr int bias = bias_;

  explicit PlainQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) w[j] = Words::load(unit + 4 * (quad * kPanelColumns + j * kWidth));
  }
};
