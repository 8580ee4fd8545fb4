#include "cpu/layer/offload.h"

#include <algorithm>

namespace moe::cpu {

Offload::Offload(int64_t experts, const OffloadOptions& options, std::vector<const CpuPackedExperts*> matrices,
                 const MappedFile& file)
    : experts_(experts),
      expert_bytes_(expert_bytes(matrices)),
      matrices_(std::move(matrices)),
      file_(file),
      residency_(experts, options) {}

int64_t Offload::expert_bytes(const std::vector<const CpuPackedExperts*>& matrices) {
  int64_t bytes = 0;
  for (const CpuPackedExperts* matrix : matrices) bytes += matrix->layout().expert_bytes();
  return bytes;
}

void Offload::load(int64_t matrix, const std::vector<SlotLoad>& loads) const {
  const char* data = matrices_[matrix]->data();
  const int64_t bytes = matrices_[matrix]->layout().expert_bytes();
  for (const SlotLoad& each : loads) {
    if (each.evicted >= 0) file_.drop(data + each.evicted * bytes, static_cast<size_t>(bytes));
  }
  for (const SlotLoad& each : loads) file_.ask(data + each.expert * bytes, static_cast<size_t>(bytes));
}

void Offload::prefetch(const std::vector<int32_t>& experts) {
  const std::vector<SlotLoad> loads = residency_.prefetch(experts);
  for (int64_t matrix = 0; matrix < std::ssize(matrices_); ++matrix) load(matrix, loads);
}

void Offload::forget() {
  residency_.clear();
  for (const CpuPackedExperts* matrix : matrices_) {
    file_.drop(matrix->data(), static_cast<size_t>(experts_ * matrix->layout().expert_bytes()));
  }
}

Status OffloadedPass::begin(const int32_t* offsets) {
  std::vector<int32_t> needed;
  for (int32_t expert = 0; expert < offload_.experts_; ++expert) {
    if (offsets[expert + 1] > offsets[expert]) needed.push_back(expert);
  }
  schedule_.emplace(offload_.residency_.plan(needed), std::ssize(offload_.matrices_));
  // Shared experts are computed with the first round.
  round_of_.assign(static_cast<size_t>(offload_.matrices_[0]->weights().experts), 0);
  for (size_t round = 0; round < schedule_->rounds().size(); ++round) {
    for (const ResidentExpert& each : schedule_->rounds()[round].experts) {
      round_of_[each.expert] = static_cast<int64_t>(round);
    }
  }
  return schedule_->issue([&](int64_t matrix, int64_t round) {
    offload_.load(matrix, schedule_->rounds()[round].loads);
    return Status();
  });
}

bool OffloadedPass::includes(const CpuPackedExperts& weights) const {
  return std::find(offload_.matrices_.begin(), offload_.matrices_.end(), &weights) != offload_.matrices_.end();
}

Status OffloadedPass::run_rounds(const std::vector<RowTile>& tiles,
                                 const std::function<Status(const std::vector<RowTile>&)>& multiply) {
  const auto load = [&](int64_t matrix, int64_t round) {
    offload_.load(matrix, schedule_->rounds()[round].loads);
    return Status();
  };
  return schedule_->run(load, [&](int64_t round) -> Status {
    std::vector<RowTile> some;
    for (const RowTile& tile : tiles) {
      if (round_of_[tile.expert] == round) some.push_back(tile);
    }
    return some.empty() ? Status() : multiply(some);
  });
}

}  // namespace moe::cpu
