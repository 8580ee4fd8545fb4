// What the stages of a pass leave for later ones.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/gemm/plan.h"

namespace moe::cpu {

// Arrays in memory of whoever runs the pass: by default the device's workspace, until the next operator.
struct ForwardState {
  float* logits = nullptr;          // [tokens, experts], of router
  float* shared_gate = nullptr;     // [tokens, shared_gate_rows], of shared_gate
  int32_t* ids = nullptr;           // [tokens, choices] and
  float* weights = nullptr;         // [tokens, choices], of gating
  int32_t* offsets = nullptr;       // [all_experts + 1], and the rest of sort
  int32_t* token_of_row = nullptr;  // [rows]
  int32_t* row_of_slot = nullptr;   // [tokens, slots]
  float* weight_of_row = nullptr;   // [rows], where weights multiply the input
  std::vector<RowTile> row_tiles;   // of one expert each
  char* inner_tiles = nullptr;      // packed tiles of activations, of gate_up
  float* outputs = nullptr;         // [rows, hidden], of down
};

}  // namespace moe::cpu
