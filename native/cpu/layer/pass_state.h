// What the stages of a pass leave for later ones.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/gemm/plan.h"

namespace moe::cpu {

// Arrays that the caller gave, or memory that the stages take.
struct PassState {
  float* logits = nullptr;          // [tokens, experts], from router
  float* shared_gate = nullptr;     // [tokens, shared_gate_rows], from shared_gate
  int32_t* ids = nullptr;           // [tokens, choices] and
  float* weights = nullptr;         // [tokens, choices], from gating
  int32_t* offsets = nullptr;       // [all_experts + 1]; this and the next three are from sort
  int32_t* token_of_row = nullptr;  // [rows]
  int32_t* row_of_slot = nullptr;   // [tokens, slots]
  float* weight_of_row = nullptr;   // [rows], if weights multiply the input
  // Of each group of experts, from gate_up: its rows, as tiles of one expert each.
  std::vector<std::vector<RowTile>> group_tiles;
  char* inner_tiles = nullptr;  // packed tiles of activations, from gate_up,
  int64_t inner_row_bytes = 0;  // of a row in them,
  float* inner = nullptr;       // or [rows, intermediate], for down products that change their rows
  float* outputs = nullptr;     // [rows, hidden], from down
};

}  // namespace moe::cpu
