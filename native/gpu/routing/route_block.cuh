// What a pass does between the router's logits and the first product, by one block: a few tokens then take one launch
// instead of four, each of which would wait for the one before.
#pragma once

#include <span>

#include "gpu/experts/shared_slots.cuh"
#include "gpu/gemm/tile_map.cuh"
#include "gpu/plan/plan.h"
#include "gpu/routing/gating.cuh"
#include "gpu/routing/sort.cuh"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Null: not to be done here. In this order.
struct RouteBlock {
  const GatingArguments* gating = nullptr;  // of gpu::gates_in_block() tokens, with float32 logits
  const SharedSlotsArguments* slots = nullptr;
  SortArguments sort;
  // Of the sorted rows, at most kMostTileMaps.
  std::span<const TileMapArguments> maps = {};
};

// Groups of experts times the products of each.
constexpr size_t kMostTileMaps = 8;

// `plan` is that of a single block.
Status launch_route_block(const RouteBlock& work, const gpu::SortPlan& plan, const gpu::DeviceTraits& traits,
                          Stream stream);

}  // namespace moe::MOE_GPU_NAMESPACE
