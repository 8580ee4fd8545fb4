// Products in tile registers on a model of their instructions, for tests on CPUs without them. See kernels.h here.

#if defined(MOE_EXTENSION)
#include "cpu/isa/tiles/model_tiles.h"

#include "cpu/isa/template/amx/kernels.h"

constexpr auto kModelRows = kRegisterGemm<ModelTiles, ByteProducts, PairsOf<E4M3Codes>>;
const std::span<const GemmKernel> kModelGemm = kModelRows;
const PeakLoop kModelBf16Peak = kFloatTilePeak<ModelTiles>;
const PeakLoop kModelInt8Peak = kRegisterIntegerPeak<ModelTiles>;
#endif
