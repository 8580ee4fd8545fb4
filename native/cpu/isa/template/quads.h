// How the codes of quantised weights become bytes, for products of integers. See kernels.h here, and
// cpu/gemm/panel_codes.h for the panels and the order of k within words.
//
// load<quad>() reads k 4 * quad .. 4 * quad + 3 of a unit, for both vectors of columns. A bias has been added to codes
// if it makes them unsigned.

constexpr int kAnyByte = 255;

// Has these loaded, in the order of the calls. Clang takes no structs as operands.
template <class Lanes>
[[gnu::always_inline]] inline void read_now([[maybe_unused]] const Lanes& lanes) {
  if constexpr (requires { lanes.lanes; }) {
    read_now(lanes.lanes);
  } else {
#if defined(__x86_64__)
    asm volatile("" : : "v"(lanes));
#elif defined(__aarch64__)
    asm volatile("" : : "w"(lanes));
#endif
  }
}
template <class Lane, size_t width>
inline void read_now(const Lane (&)[width]) {}
// The same, and has them stay in registers. Compilers would read them again wherever an instruction can.
template <class Lanes>
[[gnu::always_inline]] inline void stay([[maybe_unused]] Lanes& lanes) {
  if constexpr (requires { lanes.lanes; }) {
    stay(lanes.lanes);
  } else {
#if defined(__x86_64__)
    asm volatile("" : "+v"(lanes));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(lanes));
#endif
  }
}
template <class Lane, size_t width>
inline void stay(Lane (&)[width]) {}

// Integers that fill the fields of words: codes of 2 or 4 bits.
template <int bits_, int bias_ = 1 << (bits_ - 1)>
struct FieldQuads {
  static constexpr int bits = bits_;
  static constexpr int largest = (1 << bits) - 1;
  static constexpr int bias = bias_;

  explicit FieldQuads(const PanelScales&) {}
  template <int quad>
  void load(const char* unit, Words (&w)[kPanelVectors]) const {
#pragma GCC unroll 2
    for (int j = 0; j < kPanelVectors; ++j) {
      w[j] = quad_of<quad>(Words::load(unit + 4 * (place<quad> / 32 * kPanelColumns + j * kWidth)));
    }
  }

  // All words of a unit.
  struct UnitWords {
    Words words[bits / 2 * kPanelVectors];
  };
  // In the order of memory.
  template <int... i>
  static UnitWords read(const char* unit, std::integer_sequence<int, i...>) {
    return {{word(unit + 4 * i * kWidth)...}};
  }
  static UnitWords read(const char* unit) {
    return read(unit, std::make_integer_sequence<int, bits / 2 * kPanelVectors>());
  }
  template <int quad>
  void load(const UnitWords& unit, Words (&w)[kPanelVectors]) const {
    const Words* const words = unit.words + place<quad> / 32 * kPanelVectors;
    w[0] = quad_of<quad>(words[0]);
    w[1] = quad_of<quad>(words[1]);
  }

 private:
  template <int quad>
  static constexpr int place = plane_bit(bits, 4 * quad);
  static Words word(const char* from) {
    Words words = Words::load(from);
    stay(words.v);
    return words;
  }
  template <int quad>
  static Words quad_of(Words words) {
    return words.shifted<-(place<quad> % 32)>().masked(0x01010101u * ((1u << bits) - 1u));
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
    for (int j = 0; j < kPanelVectors; ++j) w[j] = w[j].flipped(0x80808080u);
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
  template <int quad, class Unit>
  void load(const Unit& unit, Words (&w)[kPanelVectors]) const {
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
