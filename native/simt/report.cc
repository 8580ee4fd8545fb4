#include "simt/report.h"

#include <cstdio>
#include <utility>
#include <vector>

namespace moe::simt::machine {

namespace {

// Numbers, added in ascending order, as ranges.
class Ranges {
 public:
  void add(unsigned number) {
    if (!ranges_.empty() && ranges_.back().second + 1 == number) {
      ranges_.back().second = number;
    } else {
      ranges_.emplace_back(number, number);
    }
    ++count_;
  }
  unsigned count() const { return count_; }
  std::string text() const {
    std::string text;
    for (const auto& [first, last] : ranges_) {
      if (!text.empty()) text += ", ";
      text += std::to_string(first);
      if (last != first) text += "-" + std::to_string(last);
    }
    return text;
  }

 private:
  std::vector<std::pair<unsigned, unsigned>> ranges_;
  unsigned count_ = 0;
};

}  // namespace

std::string call_text(const Call& call) {
  return std::string(call.name) + " (" + call.where.file_name() + ":" + std::to_string(call.where.line()) + ")";
}

std::string mask_text(uint32_t mask) {
  char text[24];
  snprintf(text, sizeof text, "mask 0x%08x", mask);
  return text;
}

std::string lanes_text(uint32_t lanes) {
  Ranges ranges;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((lanes >> lane & 1) != 0) ranges.add(lane);
  }
  return ranges.text();
}

std::string index_text(uint3 index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string waits_text(Scheduler& scheduler) {
  std::vector<std::pair<std::string, Ranges>> groups;
  for (unsigned number = 0; number < scheduler.size(); ++number) {
    const Thread& thread = scheduler.thread(number);
    std::string state = "exited";
    if (!thread.exited) {
      state = "waiting in " + call_text(thread.call);
      if (thread.mask != 0) state += " with " + mask_text(thread.mask);
    }
    auto group = groups.begin();
    while (group != groups.end() && group->first != state) ++group;
    if (group == groups.end()) group = groups.insert(group, {std::move(state), {}});
    group->second.add(number);
  }
  std::string text;
  for (const auto& [state, threads] : groups) {
    if (!text.empty()) text += "; ";
    text += (threads.count() == 1 ? "thread " : "threads ") + threads.text() + " " + state;
  }
  return text;
}

}  // namespace moe::simt::machine
