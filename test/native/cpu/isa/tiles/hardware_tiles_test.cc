#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>

#include "check.h"
#include "extension/cpu/model_registers.h"
#include "cpu/isa/tiles/permission.h"
#include "tile_problem.h"

#if defined(MOE_X86)
namespace {

using namespace moe::cpu;
using namespace moe::test;

#include "cpu/isa/tiles/hardware_tiles.h"
#include "extension/cpu/model_tiles.h"

bool has_tiles() {
  if (!tile_permission().granted) printf("  only where tiles can be used: %s\n", tile_permission().reason.c_str());
  return tile_permission().granted;
}

template <int c, int a, int b>
void check_same(const TileProblem& problem) {
  MOE_CHECK((same_floats(multiplied<HardwareTiles, c, a, b, false>(problem),
                         multiplied<ModelTiles, c, a, b, false>(problem))));
  MOE_CHECK((multiplied<HardwareTiles, c, a, b, true>(problem) == multiplied<ModelTiles, c, a, b, true>(problem)));
}

MOE_TEST(hardware_tiles_give_the_bits_of_model_tiles) {
  if (!has_tiles()) return;
  Random random(5);
  for (int i = 0; i < 5000; ++i) {
    const TileProblem problem = random_tiles(random, kTileValues[i % std::size(kTileValues)]);
    i % 2 == 0 ? check_same<0, 1, 2>(problem) : check_same<7, 0, 3>(problem);
  }
}

}  // namespace
#endif
