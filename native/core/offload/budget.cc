#include "core/offload/budget.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>

namespace moe {

namespace {

constexpr int64_t kMostExperts = INT32_MAX;

std::string count_of(int64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

std::string sizes(const std::vector<int64_t>& bytes) {
  std::string text;
  for (const int64_t each : bytes) text += (text.empty() ? "" : " + ") + std::to_string(each);
  return text + " bytes";
}

constexpr int64_t OffloadCounts::*kCounts[] = {&OffloadCounts::calls,      &OffloadCounts::hits,
                                               &OffloadCounts::misses,     &OffloadCounts::on_cpu,
                                               &OffloadCounts::prefetched, &OffloadCounts::evictions};
static_assert(sizeof(OffloadCounts) == std::size(kCounts) * sizeof(int64_t), "a count is missing");

OffloadCounts& operator+=(OffloadCounts& sum, const OffloadCounts& counts) {
  for (int64_t OffloadCounts::*count : kCounts) sum.*count += counts.*count;
  return sum;
}

OffloadCounts operator-(OffloadCounts counts, const OffloadCounts& others) {
  for (int64_t OffloadCounts::*count : kCounts) counts.*count -= others.*count;
  return counts;
}

}  // namespace

BudgetStats OffloadBudget::stats() const {
  const std::lock_guard lock(mutex_);
  BudgetStats stats{.counts = counts_, .expert_bytes = expert_bytes_, .loaded_bytes = loaded_bytes_};
  for (const OffloadShare* share : shares_) {
    stats.counts += share->counts_;
    stats.loaded_bytes += share->counts_.loads() * expert_bytes_;
  }
  stats.layers = std::ssize(shares_);
  if (!residency_) return stats;
  stats.slots = residency_->slots();
  for (int32_t expert = 0; expert < residency_->end(); ++expert) stats.resident += residency_->slot_of(expert) >= 0;
  return stats;
}

int64_t OffloadBudget::bytes() const {
  const std::lock_guard lock(mutex_);
  return residency_ ? residency_->slots() * expert_bytes_ : 0;
}

Status OffloadBudget::open(const std::vector<int64_t>& matrix_bytes, int64_t most) {
  if (residency_) {
    if (matrix_bytes == matrix_bytes_) return {};
    return {Code::invalid_argument, "offload.budget: expected experts of " + sizes(matrix_bytes_) +
                                        " as the budget's other layers have, got " + sizes(matrix_bytes) +
                                        ": give this layer another budget"};
  }
  const int64_t bytes = std::accumulate(matrix_bytes.begin(), matrix_bytes.end(), int64_t{0});
  int64_t slots = options_.slots > 0 ? options_.slots : options_.bytes / bytes;
  if (slots < 1) {
    return {Code::invalid_argument, std::string(most > 0 ? "offload.bytes" : "offload.budget") +
                                        ": expected at least " + std::to_string(bytes) +
                                        ", the bytes of one expert, got " + std::to_string(options_.bytes)};
  }
  if (most > 0) slots = std::min(slots, most);
  if (slots > kMostExperts || slots > INT64_MAX / bytes) {
    return {Code::out_of_memory,
            "offload: no memory for " + std::to_string(slots) + " slots of " + std::to_string(bytes) + " bytes each"};
  }
  Residency residency(slots, options_.policy);
  std::vector<int64_t> kept = matrix_bytes;  // all that can throw comes first
  if (held_ == nullptr) held_ = std::make_shared<char>();
  MOE_TRY(reserve(matrix_bytes, slots));
  residency_.emplace(std::move(residency));
  matrix_bytes_.swap(kept);
  expert_bytes_ = bytes;
  return {};
}

void OffloadBudget::close() noexcept {
  if (!shares_.empty()) return;
  residency_.reset();
  release();
  expert_bytes_ = 0;
}

int64_t OffloadBudget::first_free(int64_t experts) const {
  int64_t first = 0;
  for (const OffloadShare* share : shares_) {
    if (share->first_ - first >= experts) break;
    first = share->first_ + share->experts_;
  }
  return first;
}

void OffloadBudget::close_gaps() noexcept {
  int64_t next = 0;
  for (OffloadShare* share : shares_) {
    if (share->first_ > next) residency_->move(share->first_, share->experts_, next);
    share->first_ = next;
    next += share->experts_;
  }
}

Status OffloadBudget::check_room(int64_t first, int64_t experts, int64_t pinned) const {
  const int64_t slots = residency_->slots(), end = std::max(residency_->end(), first + experts);
  if (end > kMostExperts) {
    return {Code::invalid_argument, "offload.budget: expected at most 2^31 - 1 experts, got " + std::to_string(end)};
  }
  if (end <= slots) return {};
  if (held_.use_count() > 1) {
    return {Code::unsupported_operation,
            "offload.budget: expected a layer whose experts have slots of their own while there is a captured forward "
            "of another, got " +
                count_of(experts, "expert") + " where " + std::to_string(std::max<int64_t>(0, slots - first)) +
                " slots are left: dispose of the captured forwards first"};
  }
  for (const OffloadShare* share : shares_) pinned += share->pinned_;
  if (pinned < slots) return {};
  return {Code::invalid_argument, "offload.pinned: expected fewer experts than the " + count_of(slots, "slot") +
                                      ", got " + std::to_string(pinned) +
                                      (shares_.empty() ? "" : " of all the budget's layers")};
}

Status OffloadShare::join(std::shared_ptr<OffloadBudget> budget, int64_t experts, std::vector<int64_t> matrix_bytes,
                          const OffloadOptions& options, Drop drop, std::unique_ptr<OffloadShare>* share) {
  std::unique_ptr<OffloadShare> made(new OffloadShare(budget, experts, options, std::move(drop)));
  const std::lock_guard lock(budget->mutex_);
  budget->shares_.reserve(budget->shares_.size() + 1);
  MOE_TRY(budget->open(matrix_bytes, options.budget == nullptr ? experts : 0));
  const int64_t first = budget->first_free(experts);
  const Status added = guarded([&]() -> Status {
    MOE_TRY(budget->check_room(first, experts, made->pinned_));
    std::vector<int32_t> pinned = options.pinned;
    for (int32_t& expert : pinned) expert += static_cast<int32_t>(first);
    budget->residency_->add(first, experts, pinned);
    return {};
  });
  if (!added.ok()) {
    budget->close();
    return added;
  }
  made->first_ = first;
  auto& shares = budget->shares_;
  const auto behind =
      std::find_if(shares.begin(), shares.end(), [&](const auto* each) { return each->first_ > first; });
  shares.insert(behind, made.get());
  *share = std::move(made);
  return {};
}

OffloadShare::~OffloadShare() {
  const std::lock_guard lock(budget_->mutex_);
  if (first_ < 0) return;
  budget_->settle();
  budget_->counts_ += counts_;
  budget_->loaded_bytes_ += counts_.loads() * budget_->expert_bytes_;
  std::erase(budget_->shares_, this);
  residency().remove(first_, experts_);
  budget_->close();
}

OffloadShare& OffloadShare::owner(int32_t expert) const {
  const auto& shares = budget_->shares_;
  const auto behind =
      std::find_if(shares.begin(), shares.end(), [&](const auto* each) { return each->first_ > expert; });
  return **std::prev(behind);
}

template <class Decide>
auto OffloadShare::counted(Decide&& decide) {
  const OffloadCounts before = residency().counts();
  auto decided = decide(residency());
  OffloadCounts made = residency().counts() - before;
  made.evictions = 0;  // take() counts each for the layer whose expert it was
  counts_ += made;
  return decided;
}

std::vector<int32_t> OffloadShare::in_budget(const std::vector<int32_t>& experts) const {
  std::vector<int32_t> numbers = experts;
  for (int32_t& expert : numbers) expert += static_cast<int32_t>(first_);
  return numbers;
}

void OffloadShare::take(std::vector<SlotLoad>& loads) {
  for (SlotLoad& load : loads) {
    load.expert -= static_cast<int32_t>(first_);
    if (load.evicted < 0) continue;
    OffloadShare& share = owner(load.evicted);
    ++share.counts_.evictions;
    load.evicted -= static_cast<int32_t>(share.first_);
    if (&share == this) continue;
    share.drop(load.evicted);
    load.evicted = -1;
  }
}

std::vector<int32_t> OffloadShare::leave(const std::vector<ExpertRows>& needed) {
  const std::lock_guard lock(budget_->mutex_);
  std::vector<ExpertRows> numbers = needed;
  for (ExpertRows& each : numbers) each.expert += static_cast<int32_t>(first_);
  std::vector<int32_t> left = counted([&](Residency& r) { return r.leave(numbers, rows_to_load_); });
  for (int32_t& expert : left) expert -= static_cast<int32_t>(first_);
  return left;
}

int32_t OffloadShare::preferred() const {
  const std::lock_guard lock(budget_->mutex_);
  const int32_t expert = residency().preferred();
  return expert < 0 ? -1 : expert - static_cast<int32_t>(first_);
}

std::vector<OffloadRound> OffloadShare::plan(const std::vector<int32_t>& needed) {
  const std::lock_guard lock(budget_->mutex_);
  const std::vector<int32_t> numbers = in_budget(needed);
  std::vector<OffloadRound> rounds = counted([&](Residency& r) { return r.plan(numbers); });
  for (OffloadRound& round : rounds) {
    take(round.loads);
    for (ResidentExpert& each : round.experts) each.expert -= static_cast<int32_t>(first_);
  }
  return rounds;
}

std::vector<SlotLoad> OffloadShare::prefetch(const std::vector<int32_t>& experts) {
  const std::lock_guard lock(budget_->mutex_);
  const std::vector<int32_t> numbers = in_budget(experts);
  std::vector<SlotLoad> loads = counted([&](Residency& r) { return r.prefetch(numbers); });
  take(loads);
  return loads;
}

void OffloadShare::forget(int32_t expert) {
  const std::lock_guard lock(budget_->mutex_);
  residency().clear(static_cast<int32_t>(first_) + expert);
}

void OffloadShare::forget_all() {
  const std::lock_guard lock(budget_->mutex_);
  residency().clear();
  for (const OffloadShare* share : budget_->shares_) {
    for (int64_t expert = 0; expert < share->experts_; ++expert) share->drop(expert);
  }
}

Status OffloadShare::hold(std::shared_ptr<void>* held) {
  const std::lock_guard lock(budget_->mutex_);
  Residency& all = residency();
  // Where there is a capture already, all are held, in slots that it knows.
  if (budget_->held_.use_count() == 1) budget_->close_gaps();
  if (!all.holds_all()) {
    const auto layers = std::ssize(budget_->shares_);
    return {Code::unsupported_operation,
            "capture: expected a layer whose experts are all resident, got one with offload and " +
                count_of(all.slots(), "slot") + " for " + std::to_string(all.end()) + " experts" +
                (layers == 1 ? "" : " of " + count_of(layers, "layer")) + ": give it a slot for every expert"};
  }
  // Those that were loaded when there were more experts are loaded again.
  for (int32_t expert = 0; expert < all.end(); ++expert) {
    if (all.slot_of(expert) < 0 || all.slot_of(expert) == expert) continue;
    all.clear(expert);
    const OffloadShare& share = owner(expert);
    share.drop(expert - share.first_);
  }
  *held = budget_->held_;
  return {};
}

int64_t OffloadShare::slots() const {
  const std::lock_guard lock(budget_->mutex_);
  return std::min(experts_, residency().slots());
}

int64_t OffloadShare::expert_bytes() const {
  const std::lock_guard lock(budget_->mutex_);
  return budget_->expert_bytes_;
}

OffloadStats OffloadShare::stats() const {
  const std::lock_guard lock(budget_->mutex_);
  return residency().stats(counts_, first_, experts_, budget_->expert_bytes_);
}

}  // namespace moe
