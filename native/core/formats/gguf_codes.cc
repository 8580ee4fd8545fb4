#include "core/formats/gguf_codes.h"

#include <cstring>

#include "core/formats/code_bytes.h"
#include "core/formats/grids.h"

namespace moe {

namespace {

constexpr int kMostElements = 256;

uint32_t word_at(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, 4);
  return word;
}
uint32_t half_at(const uint8_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }
uint32_t nibble_at(const uint8_t* p, int index) { return p[index / 2] >> 4 * (index % 2) & 15u; }

// Low nibbles are the first codes, high nibbles the next ones.
void read_nibbles(const uint8_t* from, int bytes, uint8_t* codes) {
  for (int i = 0; i < bytes; ++i) {
    codes[i] = from[i] & 15;
    codes[bytes + i] = from[i] >> 4;
  }
}

// Makes codes signed that are stored with an offset of half their range.
template <int bits>
void flip_signs(uint8_t* codes, int count) {
  for (int i = 0; i < count; ++i) codes[i] ^= 1u << (bits - 1);
}

// Blocks of 32 with one scale.

void read_q4_0(const uint8_t* block, uint8_t* codes) {
  read_nibbles(block + 2, 16, codes);
  flip_signs<4>(codes, 32);
}
template <int first>
void read_32_nibbles(const uint8_t* block, uint8_t* codes) {
  read_nibbles(block + first, 16, codes);
}
template <int first>
void read_5_bits(const uint8_t* block, uint8_t* codes) {
  read_nibbles(block + first + 4, 16, codes);
  const uint32_t fifth = word_at(block + first);
  for (int i = 0; i < 32; ++i) codes[i] |= (fifth >> i & 1u) << 4;
}
void read_q5_0(const uint8_t* block, uint8_t* codes) {
  read_5_bits<2>(block, codes);
  flip_signs<5>(codes, 32);
}
void read_q8_0(const uint8_t* block, uint8_t* codes) { std::memcpy(codes, block + 2, 32); }

void read_nvfp4(const uint8_t* block, uint8_t* codes) {
  for (int group = 0; group < 4; ++group) read_nibbles(block + 4 + 8 * group, 8, codes + 16 * group);
}

// Blocks of 256 with two levels of scales.

void read_2_bits(const uint8_t* from, uint8_t* codes) {
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) codes[128 * half + 32 * quarter + i] = from[32 * half + i] >> 2 * quarter & 3;
    }
  }
}
// Bit g of 32 bytes belongs to the g-th 32 codes.
template <int shift>
void add_bit(const uint8_t* from, uint8_t inverted, uint8_t* codes) {
  for (int group = 0; group < 8; ++group) {
    for (int i = 0; i < 32; ++i) codes[32 * group + i] |= ((from[i] ^ inverted) >> group & 1) << shift;
  }
}

void read_q2_k(const uint8_t* block, uint8_t* codes) { read_2_bits(block + 16, codes); }
void read_q3_k(const uint8_t* block, uint8_t* codes) {
  read_2_bits(block + 32, codes);
  add_bit<2>(block, 0xff, codes);
}
template <int first>
void read_256_nibbles(const uint8_t* block, uint8_t* codes) {
  for (int part = 0; part < 4; ++part) read_nibbles(block + first + 32 * part, 32, codes + 64 * part);
}
void read_q5_k(const uint8_t* block, uint8_t* codes) {
  read_256_nibbles<48>(block, codes);
  add_bit<4>(block + 16, 0, codes);
}
void read_q6_k(const uint8_t* block, uint8_t* codes) {
  for (int half = 0; half < 2; ++half) {
    const uint8_t *low = block + 64 * half, *high = block + 128 + 32 * half;
    uint8_t* to = codes + 128 * half;
    for (int i = 0; i < 32; ++i) {
      to[i] = (low[i] & 15) | (high[i] & 3) << 4;
      to[32 + i] = (low[32 + i] & 15) | (high[i] >> 2 & 3) << 4;
      to[64 + i] = low[i] >> 4 | (high[i] >> 4 & 3) << 4;
      to[96 + i] = low[32 + i] >> 4 | (high[i] >> 6) << 4;
    }
  }
  flip_signs<6>(codes, 256);
}
void read_iq4_xs(const uint8_t* block, uint8_t* codes) {
  for (int group = 0; group < 8; ++group) read_nibbles(block + 8 + 16 * group, 16, codes + 32 * group);
}

// Units of grids (see GridCodes): the numbers of points of 8 or 4 coordinates, with signs above them. Blocks have 32.

constexpr int kUnits = 32;

// The eighth sign makes the number of ones even.
uint32_t even_signs(uint32_t seven) {
  uint32_t odd = seven ^ seven >> 4;
  odd ^= odd >> 2;
  odd ^= odd >> 1;
  return seven | (odd & 1u) << 7;
}
template <int first, int step>
uint32_t signs_in_words(const uint8_t* block, int i) {
  return even_signs(word_at(block + first + step * (i / 4)) >> 7 * (i % 4) & 127u);
}

uint32_t iq2_xxs_unit(const uint8_t* block, int i) {
  return block[2 + 8 * (i / 4) + i % 4] | signs_in_words<6, 8>(block, i) << 8;
}
uint32_t iq2_xs_unit(const uint8_t* block, int i) {
  const uint32_t half = half_at(block + 2 + 2 * i);
  return (half & 511u) | even_signs(half >> 9) << 9;
}
uint32_t iq2_s_unit(const uint8_t* block, int i) {
  return block[2 + i] | (block[66 + i / 4] >> 2 * (i % 4) & 3u) << 8 | uint32_t{block[34 + i]} << 10;
}
uint32_t iq3_xxs_unit(const uint8_t* block, int i) {
  return half_at(block + 2 + 2 * i) | signs_in_words<66, 4>(block, i) << 16;
}
uint32_t iq3_s_point(const uint8_t* block, int i) { return block[2 + i] | (block[66 + i / 8] >> i % 8 & 1u) << 8; }
uint32_t iq3_s_unit(const uint8_t* block, int i) {
  return iq3_s_point(block, 2 * i) | iq3_s_point(block, 2 * i + 1) << 9 | uint32_t{block[74 + i]} << 18;
}
// Their signs are those of eighths.
uint32_t iq1_s_unit(const uint8_t* block, int i) {
  const uint32_t half = half_at(block + 34 + 2 * (i / 4));
  return block[2 + i] | (half >> 3 * (i % 4) & 7u) << 8 | half >> 15 << 11;
}
uint32_t iq1_m_unit(const uint8_t* block, int i) { return block[i] | nibble_at(block + 32, i) << 8; }

template <uint32_t (*unit)(const uint8_t*, int)>
void read_units(const uint8_t* block, uint32_t* units) {
  for (int i = 0; i < kUnits; ++i) units[i] = unit(block, i);
}

// Codes that count from -1, with the other sign: those of signed integers end at 1.

void negate(uint8_t* codes, int count) {
  for (int i = 0; i < count; ++i) codes[i] = (1 - codes[i]) & 3;
}
void read_q2_0(const uint8_t* block, uint8_t* codes) {
  for (int i = 0; i < 64; ++i) codes[i] = block[2 + i / 4] >> 2 * (i % 4) & 3;
  negate(codes, 64);
}
void read_tq2_0(const uint8_t* block, uint8_t* codes) {
  read_2_bits(block, codes);
  negate(codes, 256);
}
// A byte has ternary digits; see few_bit_types.ts.
uint8_t* read_digits(const uint8_t* from, int bytes, int digits, uint8_t* codes) {
  for (int digit = 0, power = 1; digit < digits; ++digit, power *= 3) {
    for (int i = 0; i < bytes; ++i) *codes++ = static_cast<uint8_t>((from[i] * power & 0xff) * 3 >> 8);
  }
  return codes;
}
void read_tq1_0(const uint8_t* block, uint8_t* codes) {
  uint8_t* next = read_digits(block, 32, 5, codes);
  next = read_digits(block + 32, 16, 5, next);
  read_digits(block + 48, 4, 4, next);
  negate(codes, 256);
}
// A bit for 1 or -1.
void read_q1_0(const uint8_t* block, uint8_t* codes) {
  for (int i = 0; i < 128; ++i) codes[i] = (block[2 + i / 8] >> i % 8 & 1) != 0 ? 1 : 3;
}

constexpr GgufCodes kTypes[] = {
    {"Q4_0", 32, 18, 4, read_q4_0},
    {"Q4_1", 32, 20, 4, read_32_nibbles<4>},
    {"Q5_0", 32, 22, 5, read_q5_0},
    {"Q5_1", 32, 24, 5, read_5_bits<4>},
    {"Q8_0", 32, 34, 8, read_q8_0},
    {"Q2_K", 256, 84, 2, read_q2_k},
    {"Q3_K", 256, 110, 3, read_q3_k},
    {"Q4_K", 256, 144, 4, read_256_nibbles<16>},
    {"Q5_K", 256, 176, 5, read_q5_k},
    {"Q6_K", 256, 210, 6, read_q6_k},
    {"IQ4_NL", 32, 18, 4, read_32_nibbles<2>},
    {"IQ4_XS", 256, 136, 4, read_iq4_xs},
    {"MXFP4", 32, 17, 4, read_32_nibbles<1>},
    {"NVFP4", 64, 36, 4, read_nvfp4},
    {"IQ1_S", 256, 50, kIQ1Grid.bits(), nullptr, read_units<iq1_s_unit>},
    {"IQ1_M", 256, 56, kIQ1Grid.bits(), nullptr, read_units<iq1_m_unit>},
    {"IQ2_XXS", 256, 66, kIQ2XXSGrid.bits(), nullptr, read_units<iq2_xxs_unit>},
    {"IQ2_XS", 256, 74, kIQ2XSGrid.bits(), nullptr, read_units<iq2_xs_unit>},
    {"IQ2_S", 256, 82, kIQ2SGrid.bits(), nullptr, read_units<iq2_s_unit>},
    {"IQ3_XXS", 256, 98, kIQ3XXSGrid.bits(), nullptr, read_units<iq3_xxs_unit>},
    {"IQ3_S", 256, 110, kIQ3SGrid.bits(), nullptr, read_units<iq3_s_unit>},
    {"TQ1_0", 256, 54, 2, read_tq1_0},
    {"TQ2_0", 256, 66, 2, read_tq2_0},
    {"Q1_0", 128, 18, 2, read_q1_0},
    {"Q2_0", 64, 18, 2, read_q2_0},
};

// Codes of a byte each side by side, lower columns in lower bits. `count` is a multiple of 8.
template <int bits>
void pack(const uint8_t* codes, int count, uint8_t* to) {
  constexpr auto repeated = [](int width, int distance) {
    uint64_t mask = 0;
    for (int place = 0; place < 64; place += distance) mask |= ((uint64_t{1} << width) - 1) << place;
    return mask;
  };
  for (int i = 0; i < count; i += 8, to += bits) {
    uint64_t x;
    std::memcpy(&x, codes + i, 8);
    if constexpr (bits < 8) {
      // Two, four and then all eight are moved together.
      x = (x & repeated(bits, 16)) | (x >> (8 - bits) & repeated(bits, 16) << bits);
      x = (x & repeated(2 * bits, 32)) | (x >> (16 - 2 * bits) & repeated(2 * bits, 32) << 2 * bits);
      x = (x & repeated(4 * bits, 64)) | (x >> (32 - 4 * bits) & repeated(4 * bits, 64) << 4 * bits);
    }
    std::memcpy(to, &x, bits);
  }
}

template <int bits>
void convert_codes(const GgufCodes& type, const uint8_t* from, int64_t blocks, uint8_t* to) {
  alignas(64) uint8_t codes[kMostElements];
  for (int64_t block = 0; block < blocks; ++block) {
    type.read(from + block * type.bytes, codes);
    pack<bits>(codes, type.elements, to + block * type.code_bytes());
  }
}

void convert_units(const GgufCodes& type, const uint8_t* from, int64_t blocks, uint8_t* to) {
  uint32_t units[kUnits];
  for (int64_t block = 0; block < blocks; ++block) {
    type.read_units(from + block * type.bytes, units);
    write_codes(type.bits, kUnits, to + block * type.code_bytes(), [&](int i) { return units[i]; });
  }
}

}  // namespace

const GgufCodes* find_gguf_codes(std::string_view type) {
  for (const GgufCodes& codes : kTypes) {
    if (type == codes.name) return &codes;
  }
  return nullptr;
}

void GgufCodes::convert(const uint8_t* from, int64_t blocks, uint8_t* to) const {
  if (read == nullptr) return convert_units(*this, from, blocks, to);
  switch (bits) {
    case 2: return convert_codes<2>(*this, from, blocks, to);
    case 3: return convert_codes<3>(*this, from, blocks, to);
    case 4: return convert_codes<4>(*this, from, blocks, to);
    case 5: return convert_codes<5>(*this, from, blocks, to);
    case 6: return convert_codes<6>(*this, from, blocks, to);
    default: return convert_codes<8>(*this, from, blocks, to);
  }
}

}  // namespace moe
