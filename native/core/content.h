// What enqueued work writes and other work reads: memory, packed weights, a layer. It remembers where such work failed,
// so that reading there gives the error instead of undefined values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/status.h"

namespace moe {

// A range within a content, in its own units: bytes, experts.
struct Part {
  size_t begin = 0, end = 0;

  bool empty() const { return begin >= end; }
  bool meets(const Part& other) const { return !empty() && !other.empty() && begin < other.end && other.begin < end; }
};

// Only the stream's thread uses it; others may while the stream is idle.
class Content {
 public:
  virtual ~Content() = default;

  // Null if all work that wrote this part succeeded.
  const Status* failure_in(const Part& part) const { return failed_.meets(part) ? &failure_ : nullptr; }
  void fail(const Part& part, const Status& failure) noexcept;
  void written(const Part& part) noexcept;

 private:
  // Encloses everything that failed. A list of ranges would have to allocate, and memory may be what ran out.
  Part failed_;
  Status failure_;  // the first
};

constexpr Part kWhole{0, SIZE_MAX};

struct Use {
  std::shared_ptr<Content> content;
  Part part;
  bool reads;
  bool writes;
};

// What a piece of work reads and writes. It stays alive until the work has run.
class Uses {
 public:
  void reads(std::shared_ptr<Content> content, const Part& part) { add({std::move(content), part, true, false}); }
  // The work overwrites all of this part.
  void writes(std::shared_ptr<Content> content, const Part& part) { add({std::move(content), part, false, true}); }
  // The work reads this part and writes it.
  void updates(std::shared_ptr<Content> content, const Part& part) { add({std::move(content), part, true, true}); }

  // Runs the work of a stream's call, unless something that it reads has failed, and records the outcome in all that it
  // writes.
  template <class Work>
  Status run(Work&& work, uint64_t call) const noexcept {
    const Status* failed_input = failure();
    Status status = failed_input != nullptr ? copy_of(*failed_input) : guarded(work);
    if (!status.ok() && status.call == 0) status.call = call;
    settle(status);
    return status;
  }

 private:
  void add(Use use) {
    if (uses_.empty()) uses_.reserve(8);  // enough for most operators
    uses_.push_back(std::move(use));
  }
  const Status* failure() const noexcept;
  void settle(const Status& status) const noexcept;

  std::vector<Use> uses_;
};

}  // namespace moe
