// A kernel as the machine runs it: its instructions, and where each register is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ptx_machine {

constexpr unsigned kLanes = 32;
// A bit for each lane of a warp. Predicates are such bits too.
using Mask = uint32_t;
constexpr Mask kAll = ~Mask{0};

class Warp;
struct Instruction;

// Does an instruction for the lanes of a mask.
using Step = void (*)(Warp&, const Instruction&, Mask);

enum class Flow : uint8_t {
  next,      // a step, then the instruction that follows
  together,  // a step that lanes do together
  branch,    // to `target`
  leave,     // the thread ends
  barrier,   // waits for other warps
  arrive,    // tells other warps
};

// What a step needs besides the instruction's operands.
struct Instruction {
  Step step = nullptr;
  Flow flow = Flow::next;
  bool guard_negated = false;
  uint32_t guard = 0;  // the predicate's place; 0: none
  // Places of registers and constants, in the order in which the PTX has them.
  const uint32_t* operands = nullptr;
  uint32_t count = 0;
  // The offset of an address, a table of bits, a number of groups: what the instruction says itself.
  int64_t immediate = 0;
  uint32_t target = 0;
  // The operand that says which lanes take part; 0: all of the warp.
  uint32_t members = 0;
  uint32_t line = 0;  // of Program::lines
};

// The registers of a warp are in one block of memory, in which a place is a number of bytes. A register has a value for
// each lane, one after the other. Constants are registers that nothing writes.
struct Constant {
  uint32_t place;
  unsigned bits;  // 1 for predicates
  uint64_t value;
};

enum class Special { thread, threads, block, blocks, lane, warp, lanes_below };

struct SpecialRegister {
  Special which;
  int axis;
  uint32_t place;
};

struct Program {
  std::vector<Instruction> instructions;
  std::vector<std::string> lines;
  std::vector<Constant> constants;
  std::vector<SpecialRegister> specials;
  uint32_t register_bytes = 0;
  // Of each thread's own memory.
  size_t local_bytes = 0;
  // Where dynamic shared memory begins.
  uint32_t dynamic_shared = 0;
  std::vector<std::unique_ptr<uint32_t[]>> operands;
  // Tables of the module in global memory that the kernel reads.
  std::vector<std::vector<uint64_t>> tables;
};

// Addresses in shared memory begin here, as the system has the first KiB of every block. Generic addresses of shared
// memory are beyond those of the host.
constexpr uint32_t kSharedBegin = 1024;
constexpr uint64_t kSharedWindow = uint64_t{1} << 52;

}  // namespace ptx_machine
