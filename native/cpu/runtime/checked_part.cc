#include "cpu/runtime/checked_part.h"

#include <algorithm>

namespace moe::cpu {

Status CheckedPart::check(const Team& team, std::vector<int32_t> units) {
  std::erase_if(units, [this](int32_t unit) { return checked_[unit]; });
  if (units.empty()) return {};
  const std::vector<uint64_t> sums = unit_checksums(team, data_, unit_bytes_, units);
  for (size_t i = 0; i < units.size(); ++i) {
    if (sums[i] != checksums_[units[i]]) {
      MOE_TRY(file_.check_read());
      return file_.damaged(name_ + (checked_.size() == 1 ? "" : " of expert " + std::to_string(units[i])));
    }
    checked_[units[i]] = true;
  }
  return {};
}

}  // namespace moe::cpu
