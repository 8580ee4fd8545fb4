// Matrix products alone, for an instruction set that shares all else with another. See kernels.h here.

constexpr int kWidth = Vector::width;
constexpr int kPanelVectors = 2;
constexpr int kPanelColumns = kPanelVectors * kWidth;
constexpr bool kHasTallTiles = kTileRows > 8;  // as 32 registers allow

#include "cpu/isa/template/tiles.h"

#include "cpu/isa/template/results.h"

#include "cpu/isa/template/codes.h"
#include "cpu/isa/template/scales.h"
#include "cpu/isa/template/segment_scales.h"

#include "cpu/isa/template/coded_tiles.h"

#include "cpu/isa/template/quads.h"

#include "cpu/isa/template/integer_tiles.h"

#include "cpu/isa/template/factor_tiles.h"

#include "cpu/isa/template/row_parts.h"

#include "cpu/isa/template/ceilings.h"
#include "cpu/isa/template/gemm_rows.h"
#include "cpu/isa/template/integer_rows.h"
