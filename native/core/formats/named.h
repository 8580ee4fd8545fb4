// The weight formats that have names of their own. Those of other names are read from the name, see find_format.h.
#pragma once

#include "core/formats/grids.h"
#include "core/formats/tables.h"
#include "core/formats/weight_format.h"

#if defined(MOE_EXTENSION)
#include "extension/core/formats.h"
#endif

namespace moe {

// OCP MX: E2M1 in groups of 32.
inline constexpr WeightFormat kMXFP4Format =
    table_format({.name = "mxfp4", .scales = {ScaleType::e8m0, 1, 32}}, kE2M1Table);
// E2M1 in groups of 16, whose scales share a scale: the tensor's, kept for each row.
inline constexpr WeightFormat kNVFP4Format = table_format(
    {.name = "nvfp4", .scales = {ScaleType::e4m3, 1, 16}, .super_scales = {ScaleType::f32, 1, 0}}, kE2M1Table);

// Block formats of GGUF (ggml-quants.c) that scales in groups alone do not describe. Their codes stand in the order of
// the columns; those of signed types have their offset subtracted.
inline constexpr WeightFormat kQ4_1Format{.name = "q4_1",
                                          .code = CodeType::unsigned_integer,
                                          .bits = 4,
                                          .scales = {ScaleType::f16, 1, 32},
                                          .offset = Offset::minimum};
inline constexpr WeightFormat kQ5_1Format{.name = "q5_1",
                                          .code = CodeType::unsigned_integer,
                                          .bits = 5,
                                          .scales = {ScaleType::f16, 1, 32},
                                          .offset = Offset::minimum};
inline constexpr WeightFormat kQ2_KFormat{.name = "q2_k",
                                          .code = CodeType::unsigned_integer,
                                          .bits = 2,
                                          .scales = {ScaleType::u4, 1, 16},
                                          .super_scales = {ScaleType::f16, 1, 256},
                                          .offset = Offset::minimum};
inline constexpr WeightFormat kQ3_KFormat{.name = "q3_k",
                                          .code = CodeType::signed_integer,
                                          .bits = 3,
                                          .scales = {ScaleType::i8, 1, 16},
                                          .super_scales = {ScaleType::f16, 1, 256}};
inline constexpr WeightFormat kQ4_KFormat{.name = "q4_k",
                                          .code = CodeType::unsigned_integer,
                                          .bits = 4,
                                          .scales = {ScaleType::u6, 1, 32},
                                          .super_scales = {ScaleType::f16, 1, 256},
                                          .offset = Offset::minimum};
inline constexpr WeightFormat kQ5_KFormat{.name = "q5_k",
                                          .code = CodeType::unsigned_integer,
                                          .bits = 5,
                                          .scales = {ScaleType::u6, 1, 32},
                                          .super_scales = {ScaleType::f16, 1, 256},
                                          .offset = Offset::minimum};
inline constexpr WeightFormat kQ6_KFormat{.name = "q6_k",
                                          .code = CodeType::signed_integer,
                                          .bits = 6,
                                          .scales = {ScaleType::i8, 1, 16},
                                          .super_scales = {ScaleType::f16, 1, 256}};
inline constexpr WeightFormat kIQ4_XSFormat = table_format(
    {.name = "iq4_xs", .scales = {ScaleType::i8, 1, 32}, .super_scales = {ScaleType::f16, 1, 256}}, kIQ4Table);
// Of which points of a grid are stored.
template <int size>
constexpr WeightFormat grid_block(const char* name, int columns, const float (&table)[size], const GridCodes& grid) {
  return table_format(
      {.name = name, .grid = grid, .scales = {ScaleType::odd4, 1, columns}, .super_scales = {ScaleType::f16, 1, 256}},
      table);
}
inline constexpr WeightFormat kIQ3_XXSFormat = grid_block("iq3_xxs", 32, kIQ3XXSTable, kIQ3XXSGrid);
inline constexpr WeightFormat kIQ3_SFormat = grid_block("iq3_s", 32, kIQ3STable, kIQ3SGrid);
inline constexpr WeightFormat kIQ2_XXSFormat = grid_block("iq2_xxs", 32, kIQ2Table, kIQ2XXSGrid);
inline constexpr WeightFormat kIQ2_XSFormat = grid_block("iq2_xs", 16, kIQ2Table, kIQ2XSGrid);
inline constexpr WeightFormat kIQ2_SFormat = grid_block("iq2_s", 16, kIQ2Table, kIQ2SGrid);
inline constexpr WeightFormat kIQ1_SFormat = grid_block("iq1_s", 32, kIQ1Table, kIQ1Grid);
inline constexpr WeightFormat kIQ1_MFormat = grid_block("iq1_m", 16, kIQ1Table, kIQ1Grid);

// bitsandbytes with nested ("double") quantisation. It has a scale of scales for 256 of them, which run on across rows;
// here every 256 columns of a row have their own.
inline constexpr WeightFormat nested_format(const char* name, const float (&table)[16]) {
  return table_format({.name = name,
                       .scales = {ScaleType::dynamic8, 1, 64},
                       .super_scales = {ScaleType::f32, 1, 256},
                       .offset = Offset::scale_offset},
                      table);
}
inline constexpr WeightFormat kNF4NestedFormat = nested_format("nf4_nested", kNF4Table);
inline constexpr WeightFormat kFP4NestedFormat = nested_format("fp4_nested", kFP4Table);

inline constexpr const WeightFormat* kNamedFormats[] = {
    &kF32Format,          &kF16Format,     &kBF16Format,      &kMXFP4Format,     &kNVFP4Format,  &kQ4_1Format,
    &kQ5_1Format,         &kQ2_KFormat,    &kQ3_KFormat,      &kQ4_KFormat,      &kQ5_KFormat,   &kQ6_KFormat,
    &kIQ4_XSFormat,       &kIQ3_XXSFormat, &kIQ3_SFormat,     &kIQ2_XXSFormat,   &kIQ2_XSFormat, &kIQ2_SFormat,
    &kIQ1_SFormat,        &kIQ1_MFormat,   &kNF4NestedFormat, &kFP4NestedFormat,
#if defined(MOE_EXTENSION)
    MOE_EXTENSION_FORMATS
#endif
};

}  // namespace moe
