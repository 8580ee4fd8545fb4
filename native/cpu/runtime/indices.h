// Ids, indices and offsets that an operator is given: each may be anything.
#pragma once

#include <vector>

#include "core/status.h"
#include "core/tensor_view.h"
#include "core/token_mask.h"

namespace moe::cpu {

// Checks that every index of a vector or matrix is -1 or 0 .. rows - 1; ID_OUT_OF_RANGE names the first that is not. In
// messages, `name` is the operator and argument, `what` the thing that is indexed.
Status check_indices(const char* name, const TensorView& indices, int64_t rows, const char* what = "a row");

// The same for the ids [T, k] in the first `slots` slots of every token that counts: each is -1 or 0 .. limit - 1.
Status check_ids(const char* name, const TensorView& ids, int64_t slots, const TokenMask& mask, int64_t limit,
                 const char* what);
// Its error for the id of a token's slot.
Status id_out_of_range(const char* name, int64_t token, int64_t slot, const char* what, int64_t limit, int32_t id);

// Copies the offsets [experts + 1] of the experts' rows. One that descends or is outside 0 .. rows becomes the one
// before it, so that its expert gets no rows; ID_OUT_OF_RANGE names the first that does.
Status check_offsets(const char* name, const TensorView& offsets, int64_t rows, std::vector<int32_t>* checked);

// An index outside its range counts as -1.
constexpr int64_t index_or_none(int32_t index, int64_t rows) { return index >= 0 && index < rows ? index : -1; }

}  // namespace moe::cpu
