#include "core/content.h"

#include <algorithm>

namespace moe {

void Content::fail(const Part& part, const Status& failure) noexcept {
  if (part.empty()) return;
  if (failed_.empty()) {
    failed_ = part;
    failure_ = copy_of(failure);
  } else {
    failed_ = {std::min(failed_.begin, part.begin), std::max(failed_.end, part.end)};
  }
}

void Content::written(const Part& part) noexcept {
  if (!failed_.meets(part)) return;
  if (part.begin <= failed_.begin) failed_.begin = part.end;
  if (part.end >= failed_.end) failed_.end = part.begin;
}

const Status* Uses::failure() const noexcept {
  for (const Use& use : uses_) {
    if (!use.reads) continue;
    if (const Status* failure = use.content->failure_in(use.part)) return failure;
  }
  return nullptr;
}

void Uses::settle(const Status& status) const noexcept {
  for (const Use& use : uses_) {
    if (!use.writes) continue;
    if (status.ok() || status.in_data()) {
      use.content->written(use.part);
    } else {
      use.content->fail(use.part, status);
    }
  }
}

}  // namespace moe
