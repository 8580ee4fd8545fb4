// Counts the bank conflicts of a block's accesses to shared memory: those through the ptx functions, which are the ones
// that a kernel lays out for it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "simt/call.h"
#include "simt/scheduler.h"

namespace moe::simt::machine {

// Of one call in the source, or of all.
struct ConflictCount {
  uint64_t accesses = 0;  // by warps
  uint64_t extra = 0;     // passes over the banks beyond those that the bytes need
};

// By call, as reports name it.
using ConflictCounts = std::map<std::string, ConflictCount>;

class BankConflicts {
 public:
  // One lane's part of a warp's access. Lanes do not come together here: the n-th time that each comes to a call counts
  // as the same access, which it is where the lanes go through their loops alike.
  void access(const Call& call, unsigned warp, unsigned lane, uintptr_t address, size_t bytes);
  // At the end of a block.
  void finish();
  // What was counted since the last call.
  ConflictCounts take();

 private:
  struct Access {
    uint32_t lanes = 0;
    std::array<uintptr_t, kWarpLanes> addresses;
    size_t bytes;
  };
  struct Site {
    Call call;
    std::array<uint64_t, kWarpLanes> visits{};
    std::map<uint64_t, Access> open;  // by visit; some lanes have not come
  };
  // Warp, name, file, line, column.
  using Key = std::tuple<unsigned, std::string, std::string, uint32_t, uint32_t>;

  void count(const Call& call, const Access& access);

  std::map<Key, Site> sites_;
  ConflictCounts counts_;
};

// "gemm_mma: 4096 accesses to shared memory, 512 passes more than without bank conflicts: ..."
std::string conflicts_text(const char* kernel, const ConflictCounts& counts);

}  // namespace moe::simt::machine
