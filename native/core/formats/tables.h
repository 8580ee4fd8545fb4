// The values of codes of three or four bits that are no integers, and of scales of eight.
#pragma once

#include "core/formats/weight_format.h"

namespace moe {

// OCP MX, E2M1.
inline constexpr float kE2M1Table[16] = {0, .5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -.5f, -1, -1.5f, -2, -3, -4, -6};
// NF4 and FP4 of bitsandbytes (functional.py).
inline constexpr float kNF4Table[16] = {-1.0f,
                                        -0.6961928009986877f,
                                        -0.5250730514526367f,
                                        -0.39491748809814453f,
                                        -0.28444138169288635f,
                                        -0.18477343022823334f,
                                        -0.09105003625154495f,
                                        0.0f,
                                        0.07958029955625534f,
                                        0.16093020141124725f,
                                        0.24611230194568634f,
                                        0.33791524171829224f,
                                        0.44070982933044434f,
                                        0.5626170039176941f,
                                        0.7229568362236023f,
                                        1.0f};
inline constexpr float kFP4Table[16] = {0.0f,       0.0625f / 12, 8.0f / 12,  1.0f,          4.0f / 12,  6.0f / 12,
                                        2.0f / 12,  3.0f / 12,    -0.0f,      -0.0625f / 12, -8.0f / 12, -1.0f,
                                        -4.0f / 12, -6.0f / 12,   -2.0f / 12, -3.0f / 12};
// IQ4_NL and IQ4_XS of GGUF (ggml-common.h).
inline constexpr float kIQ4Table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// Elements of IQ1, IQ2 and IQ3 of GGUF by odd scales (ggml-quants.c). Codes are the coordinates of a grid's points,
// below the sign of an eighth or of the element (see GridCodes); 3 is none.
inline constexpr float kIQ1Table[8] = {-.875f, .125f, 1.125f, 0, -1.125f, -.125f, .875f, 0};
inline constexpr float kIQ2Table[8] = {1, 3.125f, 5.375f, 0, -1, -3.125f, -5.375f, -0.0f};
inline constexpr float kIQ3XXSTable[16] = {1, 3, 5, 7, 9, 11, 13, 15.5f, -1, -3, -5, -7, -9, -11, -13, -15.5f};
inline constexpr float kIQ3STable[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};

// The value of a scale of ScaleType::odd4.
MOE_HOST_DEVICE constexpr int odd4_value(uint32_t bits) { return 2 * static_cast<int>(bits & 15u) + 1; }

// The signed dynamic map of bitsandbytes (create_dynamic_map in functional.py): 127 magnitudes of either sign, 0 as
// code 127 and 1 as code 255. The magnitudes below 10^(i - 6), i = 0 .. 6, are the middles of 2^i equal parts of what
// lies between its tenth and itself. As whole numbers divided by whole numbers, they are rounded once.
MOE_HOST_DEVICE constexpr float dynamic8_value(uint32_t code) {
  if (code == 127) return 0.0f;
  if (code == 255) return 1.0f;
  const uint32_t place = code > 127 ? code - 127 : 127 - code;
  uint32_t parts = 64;
  float divisor = 1280.0f;
  for (; parts > place; parts /= 2) divisor *= 5.0f;
  const float magnitude = static_cast<float>(18 * place + 9 - 16 * parts) / divisor;
  return code > 127 ? magnitude : -magnitude;
}

template <int size>
constexpr WeightFormat table_format(WeightFormat format, const float (&table)[size]) {
  static_assert(size == 8 || size == 16);
  format.code = CodeType::table;
  format.bits = size == 8 ? 3 : 4;
  for (int i = 0; i < size; ++i) format.table[i] = table[i];
  return format;
}

}  // namespace moe
