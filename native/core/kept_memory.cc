#include "core/kept_memory.h"

#include <algorithm>
#include <utility>

namespace moe {

bool KeptMemory::keep(const Block& block, size_t most) {
  if (block.length > most || bytes_ > most - block.length) return false;
  blocks_.push_back(block);
  bytes_ += block.length;
  return true;
}

std::optional<KeptMemory::Block> KeptMemory::take(size_t length) {
  const size_t most = length + length / 8;
  auto best = blocks_.end();
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->length < length || block->length > most) continue;
    if (best == blocks_.end() || block->length <= best->length) best = block;
  }
  if (best == blocks_.end()) return std::nullopt;
  const Block found = *best;
  blocks_.erase(best);
  bytes_ -= found.length;
  return found;
}

std::vector<KeptMemory::Block> KeptMemory::take_old(Time now) {
  const auto old = std::stable_partition(blocks_.begin(), blocks_.end(),
                                         [&](const Block& b) { return now - b.since <= kTemporary; });
  std::vector<Block> taken(old, blocks_.end());
  blocks_.erase(old, blocks_.end());
  for (const Block& block : taken) bytes_ -= block.length;
  return taken;
}

std::vector<KeptMemory::Block> KeptMemory::take_all() {
  bytes_ = 0;
  return std::exchange(blocks_, {});
}

}  // namespace moe
