// Slots that the experts of several layers share.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "core/offload/residency.h"
#include "core/status.h"

namespace moe {

struct BudgetOptions {
  // Experts that are resident at most. 0: as many as fit into `bytes`.
  int64_t slots = 0;
  int64_t bytes = 0;
  OffloadPolicy policy = OffloadPolicy::lfru;
};

struct BudgetStats {
  OffloadCounts counts;  // of all layers, also of those that have left
  int64_t slots = 0;     // 0 while there is no layer
  int64_t expert_bytes = 0;
  int64_t loaded_bytes = 0;
  int64_t layers = 0;
  int64_t resident = 0;  // experts
};

class OffloadShare;

// One Residency for the experts of all layers that join, whose matrices have the same sizes. Slots have memory from
// when the first layer joins until the last one leaves. Layers join and leave on any thread, even while another runs,
// but run one at a time.
class OffloadBudget {
 public:
  explicit OffloadBudget(const BudgetOptions& options) : options_(options) {}
  virtual ~OffloadBudget() = default;
  OffloadBudget(const OffloadBudget&) = delete;
  OffloadBudget& operator=(const OffloadBudget&) = delete;

  BudgetStats stats() const;
  // Of all slots.
  int64_t bytes() const;

 protected:
  // Memory for slots of matrices of these sizes, for the first layer and until the last leaves.
  virtual Status reserve(const std::vector<int64_t>&, int64_t) { return {}; }
  virtual void release() noexcept {}
  // Waits until nothing reads the memory of a layer that leaves.
  virtual void settle() noexcept {}

 private:
  friend class OffloadShare;

  // Makes sure that there are slots for such a layer. `most` is how many it can use; 0: others may join it.
  Status open(const std::vector<int64_t>& matrix_bytes, int64_t most);
  // The lowest number with `experts` free ones from it on.
  int64_t first_free(int64_t experts) const;
  Status check_room(int64_t first, int64_t experts, int64_t pinned) const;
  // Gives the layers' experts the lowest numbers, where layers have left gaps among them.
  void close_gaps() noexcept;
  void close() noexcept;

  const BudgetOptions options_;
  mutable std::mutex mutex_;
  std::vector<int64_t> matrix_bytes_;  // of each layer's experts
  int64_t expert_bytes_ = 0;
  std::optional<Residency> residency_;  // while there are layers
  std::vector<OffloadShare*> shares_;   // by their first experts
  // Every capture has a copy. While there is one, no expert may have to make room.
  std::shared_ptr<void> held_;
  // Of layers that have left.
  OffloadCounts counts_;
  int64_t loaded_bytes_ = 0;
};

// How a layer offloads its experts.
struct OffloadOptions {
  // Null: one of its own, with these options.
  std::shared_ptr<OffloadBudget> budget;
  BudgetOptions own;
  std::vector<int32_t> pinned;  // never evicted
  // An expert that is not resident and has fewer rows is left to another device instead of being loaded.
  int64_t rows_to_load = 0;
};

// What one layer has of a budget. Experts are numbered within its bank.
class OffloadShare {
 public:
  // What gives back the memory of an expert that is not resident any more, of all its matrices. Called while another
  // layer runs, or this one fails.
  using Drop = std::function<void(int32_t expert)>;

  // `matrix_bytes` of an expert, in the order of products. INVALID_ARGUMENT if they are not those of the budget's other
  // layers, if not one expert fits, or if the pinned experts of all layers leave no slot to the others.
  // UNSUPPORTED_OPERATION if a capture needs the slots.
  static Status join(std::shared_ptr<OffloadBudget> budget, int64_t experts, std::vector<int64_t> matrix_bytes,
                     const OffloadOptions& options, Drop drop, std::unique_ptr<OffloadShare>* share);
  // Gives its slots back to the others.
  ~OffloadShare();
  OffloadShare(const OffloadShare&) = delete;
  OffloadShare& operator=(const OffloadShare&) = delete;

  // See Residency. An expert of another layer that makes room is dropped at once, and not part of the loads.
  std::vector<int32_t> leave(const std::vector<ExpertRows>& needed);
  int32_t preferred() const;
  std::vector<OffloadRound> plan(const std::vector<int32_t>& needed);
  std::vector<SlotLoad> prefetch(const std::vector<int32_t>& experts);
  // An expert's weights are others now.
  void forget(int32_t expert);
  // After a failure: nothing is known to be resident, of no layer.
  void forget_all();
  // Keeps all experts of all layers resident, once they are loaded, while `held` lives: expert e in slot first() + e.
  // UNSUPPORTED_OPERATION if not all have a slot.
  Status hold(std::shared_ptr<void>* held);

  int64_t first() const { return first_; }
  // How many of the layer's experts can be resident.
  int64_t slots() const;
  int64_t expert_bytes() const;
  OffloadStats stats() const;
  OffloadBudget& budget() const { return *budget_; }

 private:
  friend class OffloadBudget;

  OffloadShare(std::shared_ptr<OffloadBudget> budget, int64_t experts, const OffloadOptions& options, Drop drop)
      : budget_(std::move(budget)),
        experts_(experts),
        pinned_(static_cast<int64_t>(options.pinned.size())),
        rows_to_load_(options.rows_to_load),
        drop_(std::move(drop)) {}

  Residency& residency() const { return *budget_->residency_; }
  OffloadShare& owner(int32_t expert) const;
  // Runs `decide`, and counts what it did as this layer's.
  template <class Decide>
  auto counted(Decide&& decide);
  std::vector<int32_t> in_budget(const std::vector<int32_t>& experts) const;
  // Makes loads those of the layer's own experts.
  void take(std::vector<SlotLoad>& loads);
  void drop(int64_t expert) const {
    if (drop_) drop_(static_cast<int32_t>(expert));
  }

  const std::shared_ptr<OffloadBudget> budget_;
  const int64_t experts_;
  const int64_t pinned_;
  const int64_t rows_to_load_;
  const Drop drop_;
  int64_t first_ = -1;  // -1: has not joined; under the budget's lock, as gaps are closed
  OffloadCounts counts_;
};

}  // namespace moe
