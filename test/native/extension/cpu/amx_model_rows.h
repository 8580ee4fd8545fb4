// Products in tile registers on a model of their instructions. Included after template/products.h and ByteProducts.

#include "extension/cpu/model_tiles.h"

#include "cpu/isa/template/amx/kernels.h"

constexpr auto kRows = kRegisterGemm<ModelTiles, ByteProducts, PairsOf<E4M3Codes>>;
const std::span<const GemmKernel> kGemm = kRows;
const PeakLoop kBf16Peak = kFloatTilePeak<ModelTiles>;
const PeakLoop kInt8Peak = kRegisterIntegerPeak<ModelTiles>;
