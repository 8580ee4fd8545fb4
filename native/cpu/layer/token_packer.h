// Packs tokens of a pass for a product.
#pragma once

#include "cpu/layer/pass.h"

namespace moe::cpu {

class TokenPacker final : public TilePacker {
 public:
  // Rows are those of token_of_row, times weight_of_row; null: all tokens, and no weights.
  TokenPacker(const Pass& pass, const Operand& operand, const int32_t* token_of_row, const float* weight_of_row)
      : pass_(pass),
        inputs_(operand.weights.inputs()),
        packer_(pass.kernels, operand.gemm, operand.weights, pass.tokens.dtype),
        token_of_row_(token_of_row),
        weight_of_row_(weight_of_row) {}

  void pack(int thread, const RowTile& tile, char* x, float* scales) const override {
    const RoundedTokens& rounded = pass_.scratch.rounded;
    for (int32_t r = 0; r < tile.rows; ++r) {
      const int64_t row = tile.first_row + r, token = token_of_row_ == nullptr ? row : token_of_row_[row];
      const float* weight = weight_of_row_ == nullptr ? nullptr : weight_of_row_ + row;
      if (inputs_.rounds_alike()) {
        packer_.pack_rounded(tile, r, rounded.codes + token * pass_.layer.hidden,
                             rounded.scales + token * inputs_.scales_per_row(), weight, x, scales);
      } else {
        packer_.pack(tile, r, pass_.token(token), weight, x, pass_.scratch.input_lines.of(thread), scales);
      }
    }
  }

 private:
  const Pass& pass_;
  const ExpertInputs& inputs_;
  const RowPacker packer_;
  const int32_t* const token_of_row_;
  const float* const weight_of_row_;
};

}  // namespace moe::cpu
