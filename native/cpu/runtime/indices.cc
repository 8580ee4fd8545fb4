#include "cpu/runtime/indices.h"

#include <string>

namespace moe::cpu {

static bool in_range(int32_t index, int64_t limit) { return index == -1 || index_or_none(index, limit) >= 0; }

static Status out_of_range(const std::string& place, const char* what, int64_t limit, int32_t index) {
  const std::string range =
      limit > 0 ? std::string("-1 or ") + what + " from 0 to " + std::to_string(limit - 1) : "-1, the only valid value";
  return {Code::id_out_of_range, place + ": expected " + range + ", got " + std::to_string(index)};
}

Status check_indices(const char* name, const TensorView& indices, int64_t rows, const char* what) {
  if (indices.rank == 2) return check_ids(name, indices, indices.shape[1], TokenMask({}), rows, what);
  for (int64_t i = 0; i < indices.size(); ++i) {
    const int32_t index = indices.as<const int32_t>()[i];
    if (in_range(index, rows)) continue;
    return out_of_range(std::string(name) + "[" + std::to_string(i) + "]", what, rows, index);
  }
  return {};
}

Status id_out_of_range(const char* name, int64_t token, int64_t slot, const char* what, int64_t limit, int32_t id) {
  return out_of_range(std::string(name) + "[" + std::to_string(token) + ", " + std::to_string(slot) + "]", what, limit,
                      id);
}

Status check_ids(const char* name, const TensorView& ids, int64_t slots, const TokenMask& mask, int64_t limit,
                 const char* what) {
  if (slots == 0) return {};  // T may be any number, with no memory behind it
  for (int64_t token = 0; token < ids.shape[0]; ++token) {
    if (!mask.counts(token)) continue;
    for (int64_t j = 0; j < slots; ++j) {
      const int32_t id = ids.as<const int32_t>()[token * ids.shape[1] + j];
      if (in_range(id, limit)) continue;
      return id_out_of_range(name, token, j, what, limit, id);
    }
  }
  return {};
}

Status check_offsets(const char* name, const TensorView& offsets, int64_t rows, std::vector<int32_t>* checked) {
  const int32_t* given = offsets.as<const int32_t>();
  checked->assign(given, given + offsets.size());
  Status status;
  int32_t lowest = 0;
  for (int64_t i = 0; i < offsets.size(); ++i) {
    int32_t& offset = (*checked)[static_cast<size_t>(i)];
    if (offset < lowest || offset > rows) {
      if (status.ok()) {
        status = {Code::id_out_of_range, std::string(name) + "[" + std::to_string(i) + "]: expected from " +
                                             std::to_string(lowest) + " to " + std::to_string(rows) + ", got " +
                                             std::to_string(offset)};
      }
      offset = lowest;
    }
    lowest = offset;
  }
  return status;
}

}  // namespace moe::cpu
