// Products in tile registers, for a policy such as HardwareTiles. See kernels.h of the folder above.

#include "cpu/isa/template/amx/shapes.h"

#include "cpu/isa/template/amx/floats.h"
#include "cpu/isa/template/amx/integers.h"

template <class Tiles>
constexpr auto kRegisterGemm = joined(kExtensionGemm, kRegisterIntegerGemm<Tiles>, kFloatTileGemm<Tiles>);
