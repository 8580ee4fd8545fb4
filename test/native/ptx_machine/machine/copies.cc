// Asynchronous copies from global to shared memory.
#include "addresses.h"
#include "lanes.h"

namespace ptx_machine {
namespace {

enum class Partial { no, by_size, by_predicate };

// The destination, the source, and perhaps what says how much of it is read. The rest is filled with zeros.
template <Partial kPartial>
void copy(Warp& warp, const Instruction& in, Mask mask) {
  const auto bytes = static_cast<uint32_t>(in.immediate);
  for_lanes(mask, [&](unsigned lane) {
    uint32_t copied = bytes;
    if constexpr (kPartial == Partial::by_size) copied = warp.at<uint32_t>(in.operands[2])[lane];
    if constexpr (kPartial == Partial::by_predicate) copied = warp.predicate(in.operands[2]) >> lane & 1 ? 0 : bytes;
    if (copied > bytes)
      warp.fault("cp.async reads " + std::to_string(copied) + " of " + std::to_string(bytes) + " bytes");
    std::byte* to = warp.shared(warp.at<uint32_t>(in.operands[0])[lane], bytes);
    const uint64_t from = warp.at<uint64_t>(in.operands[1])[lane];
    if (from % bytes != 0) warp.fault("the source of cp.async is not aligned");
    const std::byte* source = nullptr;
    if (copied > 0) {
      source = warp.global(from, 1);
      warp.global(from + copied - 1, 1);
    }
    warp.add_copy({to, source, copied, bytes - copied});
  });
}

void commit(Warp& warp, const Instruction&, Mask mask) {
  if (mask != warp.live()) warp.fault("only some lanes of the warp commit their copies");
  warp.commit_copies();
}
void wait(Warp& warp, const Instruction& in, Mask mask) {
  if (mask != warp.live()) warp.fault("only some lanes of the warp wait for their copies");
  warp.wait_for_copies(static_cast<size_t>(in.immediate));
}

void build_copy(Building& b) {
  b.words.skip_memory_words();
  if (!take_shared(b)) b.words.unknown();
  b.words.expect({"global"});
  // Of two addresses, the instruction has room for one offset.
  for (size_t i : {0, 1}) {
    if (b.argument(i).parts.size() > 1) b.words.unknown();
    b.add_address(i);
    if (b.instruction.address_bits != (i == 0 ? 32 : 64)) b.words.unknown();
  }
  const uint64_t bytes = b.number(2);
  if (bytes != 4 && bytes != 8 && bytes != 16) b.words.unknown();
  b.instruction.immediate = static_cast<int64_t>(bytes);
  b.instruction.step = copy<Partial::no>;
  if (b.count() < 4) return;
  if (b.assembler.operand(b.text(3), 32).bits == 1) {
    if (b.add_predicate(3)) b.words.unknown();
    b.instruction.step = copy<Partial::by_predicate>;
  } else {
    b.add(3, 32);
    b.instruction.step = copy<Partial::by_size>;
  }
}

void build_cp(Building& b) {
  b.words.expect({"async"});
  if (b.words.take("commit_group")) {
    b.instruction.step = commit;
  } else if (b.words.take("wait_group")) {
    b.instruction.immediate = static_cast<int64_t>(b.number(0));
    b.instruction.step = wait;
  } else {
    build_copy(b);
  }
}

}  // namespace

void add_copies(Builders& builders) { builders["cp"] = build_cp; }

}  // namespace ptx_machine
