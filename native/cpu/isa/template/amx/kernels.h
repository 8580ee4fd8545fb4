// Products in tile registers, for a policy such as HardwareTiles; few rows of bytes are multiplied by Products, see
// integer_tiles.h. See kernels.h of the folder above.

#include "cpu/isa/template/amx/shapes.h"

#include "cpu/isa/template/amx/floats.h"
#include "cpu/isa/template/amx/groups.h"

#include "cpu/isa/template/amx/codes.h"
#include "cpu/isa/template/amx/integers.h"
#include "cpu/isa/template/amx/scaled_codes.h"

#include "cpu/isa/template/amx/factors.h"

template <class Tiles, class Products, class E4M3Pairs>
constexpr auto kRegisterGemm =
    joined(kExtensionGemm, kRegisterFactorGemm<Tiles, Products>, kRegisterIntegerGemm<Tiles, Products>,
           kFloatTileGemm<Tiles>, kScaledCodeGemm<Tiles, E4M3Pairs>, kCodeTileGemm<Tiles, E4M3Pairs>);
