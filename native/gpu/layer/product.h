// One of a layer's products in a pass.
#pragma once

#include "gpu/gemm/tile_map.cuh"
#include "gpu/layer/pass.h"
#include "gpu/tile/epilogue.cuh"

namespace moe::MOE_GPU_NAMESPACE {

struct ProductRows {
  TensorView x;
  TensorView token_of_row = {};   // absent: row r of the product is row r of x
  TensorView weight_of_row = {};  // multiplies the sums; may be absent
  TensorView y;
  bool multiplies_y = false;
  RowsBefore before = {};
};

// Tile map `index` of the plan, of what sort leaves.
TileMapArguments map_of(const Pass& pass, size_t index, const MappedExperts& mapped);

// Computes product `index` of layer_products().
Status multiply(const Pass& pass, size_t index, const ProductRows& rows);

}  // namespace moe::MOE_GPU_NAMESPACE
