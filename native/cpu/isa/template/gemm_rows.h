// Rows of tables of matrix products from what is multiplied in them. See kernels.h here.

// A row whose tile kernels are built from `Step`.
template <class Step>
constexpr GemmKernel gemm_kernel(GemmKernel row) {
  row.max_rows = kTileRows;
  row.tile = tiles<Step>();
  row.wide_tile = wide_tiles<Step>();
  return row;
}

// A row for plain weights.
template <class Step, CodeType code>
constexpr GemmKernel plain_kernel(const char* name, PanelFunction panels) {
  return gemm_kernel<Step>({.name = name,
                            .tokens = kAllTokens,
                            .arithmetic = Arithmetic::f32,
                            .takes = takes_code<code>,
                            .formats = name,
                            .panels = panels,
                            .numbers = kFloatNumbers});
}

// Whether codes are unpacked once for all tiles of an expert. Tiles of few rows would spend much of their time on it.
// Taller ones gain only where unpacking takes longer than reading what it leaves, which has more bytes; or else where
// results stay in registers, if more than two tiles share it.
constexpr bool unpacks_once(bool cheap) { return !kHasTallTiles || !cheap; }
constexpr int unpacked_at_least(bool cheap) { return unpacks_once(cheap) ? 2 : 3; }

template <class Products, class Codes>
constexpr UnpackedTiles unpacked_values(bool cheap, const TileFunctions& tile) {
  return {.unpack = unpack_values<Products, Codes>,
          .at_least = unpacked_at_least(cheap),
          .code_bytes = kUnpackedBytes<Products>,
          .tile = tile};
}

// A row for quantised weights, multiplied as floats.
template <class Codes>
constexpr GemmKernel coded_kernel(const char* name, bool (*takes)(const WeightFormat&), const char* formats) {
  using OfManyRows = typename CodesFor<Codes, kTileRows>::type;
  constexpr bool cheap = std::is_same_v<Codes, ByteCodes>;
  GemmKernel row = {.name = name,
                    .tokens = kAllTokens,
                    .arithmetic = Arithmetic::f32,
                    .takes = takes,
                    .formats = formats,
                    .panels = coded_panels,
                    .numbers = kCodeNumbers,
                    .max_rows = kTileRows,
                    .tile = coded_tiles<FloatProducts, Codes>(),
                    .sum_segments = sum_values<float, 1>};
  if constexpr (unpacks_once(cheap)) {
    row.unpacked = unpacked_values<FloatProducts, OfManyRows>(
        cheap, coded_tiles<FloatProducts, UnpackedValues<FloatProducts>, UnpackedScales<sizeof(float)>>());
  }
  if constexpr (kHasParts) {
    row.in_parts = unpacked_values<FloatProducts, OfManyRows>(cheap, tiles_in_parts<CodedPart<FloatProducts>>());
  }
  return row;
}

// The first rows, of the tests.
#if defined(MOE_EXTENSION)
#include "extension/cpu/gemm_kernels.h"
#else
constexpr std::array<GemmKernel, 0> kExtensionGemm{};
#endif
