#include "cpu/layer/offload.h"

#include <algorithm>

namespace moe::cpu {

Status Offload::create(int64_t experts, const OffloadOptions& options, std::vector<const CpuPackedExperts*> matrices,
                       const MappedFile& file, std::unique_ptr<Offload>* offload) {
  std::vector<int64_t> bytes;
  for (const CpuPackedExperts* matrix : matrices) bytes.push_back(matrix->layout().expert_bytes());
  const bool shares_budget = options.budget != nullptr;
  std::unique_ptr<Offload> made(new Offload(experts, std::move(matrices), file, shares_budget));
  const auto drop = [of = made.get()](int32_t expert) {
    for (int64_t matrix = 0; matrix < std::ssize(of->matrices_); ++matrix) of->drop(matrix, expert);
  };
  std::shared_ptr<OffloadBudget> budget = shares_budget ? options.budget : std::make_shared<OffloadBudget>(options.own);
  MOE_TRY(OffloadShare::join(std::move(budget), experts, std::move(bytes), options, drop, &made->share_));
  *offload = std::move(made);
  return {};
}

void Offload::drop(int64_t matrix, int32_t expert) const {
  const int64_t bytes = matrices_[matrix]->layout().expert_bytes();
  file_.drop(matrices_[matrix]->data() + expert * bytes, static_cast<size_t>(bytes));
}

void Offload::load(int64_t matrix, const std::vector<SlotLoad>& loads) const {
  const int64_t bytes = matrices_[matrix]->layout().expert_bytes();
  for (const SlotLoad& each : loads) {
    if (each.evicted >= 0) drop(matrix, each.evicted);
  }
  for (const SlotLoad& each : loads) {
    file_.ask(matrices_[matrix]->data() + each.expert * bytes, static_cast<size_t>(bytes));
  }
}

void Offload::prefetch(const std::vector<int32_t>& experts) {
  const std::vector<SlotLoad> loads = share_->prefetch(experts);
  for (int64_t matrix = 0; matrix < std::ssize(matrices_); ++matrix) load(matrix, loads);
}

Status OffloadedPass::begin(const int32_t* offsets) {
  std::vector<int32_t> needed;
  for (int32_t expert = 0; expert < offload_.experts_; ++expert) {
    if (offsets[expert + 1] > offsets[expert]) needed.push_back(expert);
  }
  schedule_.emplace(offload_.share_->plan(needed), std::ssize(offload_.matrices_));
  // Shared experts are computed with the first round.
  round_of_.assign(static_cast<size_t>(offload_.matrices_[0]->weights().experts), 0);
  for (size_t round = 0; round < schedule_->rounds().size(); ++round) {
    for (const ResidentExpert& each : schedule_->rounds()[round].experts) {
      round_of_[each.expert] = static_cast<int64_t>(round);
    }
  }
  return schedule_->issue([this](int64_t matrix, int64_t round) { return load(matrix, round); });
}

Status OffloadedPass::load(int64_t matrix, int64_t round) const {
  offload_.load(matrix, schedule_->rounds()[round].loads);
  return {};
}

bool OffloadedPass::includes(const CpuPackedExperts& weights) const {
  return std::find(offload_.matrices_.begin(), offload_.matrices_.end(), &weights) != offload_.matrices_.end();
}

Status OffloadedPass::run_rounds(const std::vector<RowTile>& tiles,
                                 const std::function<Status(const std::vector<RowTile>&)>& multiply) {
  const auto load_round = [this](int64_t matrix, int64_t round) { return load(matrix, round); };
  return schedule_->run(load_round, [&](int64_t round) -> Status {
    std::vector<RowTile> some;
    for (const RowTile& tile : tiles) {
      if (round_of_[tile.expert] == round) some.push_back(tile);
    }
    return some.empty() ? Status() : multiply(some);
  });
}

}  // namespace moe::cpu
