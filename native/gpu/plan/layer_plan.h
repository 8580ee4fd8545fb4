// Plans of a layer's passes; see plan.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/layer/description.h"
#include "core/status.h"
#include "gpu/plan/gemm_plan.h"
#include "gpu/plan/input_use.h"
#include "gpu/plan/plan.h"

namespace moe::gpu {

// A layer's products over one of its groups of experts: inner = act(gate x) * (up x) * (multiplier x), y = down inner.
// gate_up has both matrices, or only up if there is no gate; if gate and up have different formats, each is a product
// of its own.
enum class ProductRole : uint8_t { multiplier, gate_up, gate, up, down };
struct LayerProduct {
  ProductRole role;
  ExpertProduct product;
  size_t group;  // among LayerDescription::groups()
};
// Group by group, in the order of computation: the first sets the inner activations, the others multiply them; down is
// last.
std::vector<LayerProduct> layer_products(const LayerDescription& layer);

// One product: its GEMM, where the workspace keeps its left operand (if converted), and the index of its tile map. If
// it changes its inputs, they are gathered into rows of their own before.
struct ProductPlan {
  ProductRole role;
  size_t group;
  InputUse inputs = InputUse::as_they_are;
  int64_t row_scales = 0;  // of a row's codes
  GemmPlan gemm = {};
  size_t x = 0, map = 0;
};

// A group of experts and its inner activations, as the kernel of its down product takes them. Rows have the same bytes
// in every group.
struct GroupPlan {
  ExpertRange experts;
  DType inner_dtype = DType::f32;
  int64_t inner_pitch = 0;
};

// A tile map in the state, shared by products of a group with tiles of the same height.
struct TileMapPlan {
  size_t group;
  int tile_rows;
  size_t map;
};

// x in another dtype or with another pitch, in the workspace, shared by the products that need the same.
struct ConvertedPlan {
  DType dtype;
  int64_t pitch;
  size_t x;
};

// One pass through a layer: the plans of its stages, and the place of each part. Results of stages are in the state;
// the workspace is for their own use. Parts of stages that do not run, and parts that the caller gives, take no memory.
struct LayerPlan {
  SortPlan sort;
  bool gates_in_sort;                 // the launch of the stage `sort` does the gating too
  std::vector<ProductPlan> products;  // in the order of layer_products()
  std::vector<GroupPlan> groups;      // LayerDescription::groups()
  std::vector<TileMapPlan> maps;
  std::vector<ConvertedPlan> converted;
  int64_t inner_row_bytes;
  DType rows_dtype;   // the rows that are combined
  int64_t row_count;  // R, at most
  size_t logits, ids, weights, shared_gate, slot_ids, slot_weights;
  size_t offsets, tokens_per_expert, token_of_row, weight_of_row, row_of_slot;
  size_t inner, rows;
  size_t state_bytes;
  size_t sort_counts, gathered, row_factors;
  size_t workspace_bytes;
};
struct LayerProblem {
  int64_t tokens;       // T
  int64_t choices;      // k
  int64_t max_choices;  // how many of the T * k choices are not -1, at most
  DType x;
  // Whether rows of x begin at multiples of 16 bytes.
  bool x_aligned;
  AllowedRoundings allowed;
  // Of layer_products(); empty: as they are.
  std::vector<InputUse> inputs = {};
  Stages stages = kForwardStages;
  bool logits_given = false;
  bool ids_given = false;
};
Status plan_layer(const LayerDescription& layer, const LayerProblem& problem, const DeviceTraits& traits,
                  LayerPlan* plan);

std::string describe(const LayerPlan& plan);

}  // namespace moe::gpu
