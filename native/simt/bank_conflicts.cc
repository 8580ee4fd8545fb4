#include "simt/bank_conflicts.h"

#include <algorithm>
#include <set>
#include <utility>

#include "simt/report.h"

namespace moe::simt::machine {

namespace {

constexpr unsigned kBanks = 32;
constexpr size_t kWordBytes = 4;

}  // namespace

void BankConflicts::access(const Call& call, unsigned warp, unsigned lane, uintptr_t address, size_t bytes) {
  const std::source_location& where = call.where;
  Site& site = sites_[{warp, call.name, where.file_name(), where.line(), where.column()}];
  site.call = call;
  const uint64_t visit = site.visits[lane]++;
  Access& access = site.open[visit];
  access.lanes |= 1u << lane;
  access.addresses[lane] = address;
  access.bytes = bytes;
  if (access.lanes != 0xffffffffu) return;
  count(call, access);
  site.open.erase(visit);
}

void BankConflicts::finish() {
  for (const auto& [key, site] : sites_) {
    for (const auto& [visit, access] : site.open) count(site.call, access);
  }
  sites_.clear();
}

ConflictCounts BankConflicts::take() { return std::exchange(counts_, {}); }

// A pass serves as many lanes as have 128 bytes in all; each more word of one bank takes a pass of its own. Lanes that
// want the same word share it.
void BankConflicts::count(const Call& call, const Access& access) {
  ConflictCount& total = counts_[call_text(call)];
  ++total.accesses;
  const unsigned together = static_cast<unsigned>(kBanks * kWordBytes / access.bytes);
  for (unsigned first = 0; first < kWarpLanes; first += together) {
    std::array<std::set<uintptr_t>, kBanks> words;
    for (unsigned lane = first; lane < std::min(first + together, kWarpLanes); ++lane) {
      if ((access.lanes >> lane & 1) == 0) continue;
      const uintptr_t word = access.addresses[lane] / kWordBytes;
      for (size_t i = 0; i < access.bytes / kWordBytes; ++i) words[(word + i) % kBanks].insert(word + i);
    }
    size_t passes = 1;
    for (const std::set<uintptr_t>& of_bank : words) passes = std::max(passes, of_bank.size());
    total.extra += passes - 1;
  }
}

std::string conflicts_text(const char* kernel, const ConflictCounts& counts) {
  ConflictCount total;
  std::string calls;
  for (const auto& [call, count] : counts) {
    total.accesses += count.accesses;
    total.extra += count.extra;
    if (count.extra > 0) calls += (calls.empty() ? ": " : ", ") + call + " " + std::to_string(count.extra);
  }
  return std::string(kernel) + ": " + std::to_string(total.accesses) + " accesses to shared memory, " +
         std::to_string(total.extra) + " passes more than without bank conflicts" + calls;
}

}  // namespace moe::simt::machine
