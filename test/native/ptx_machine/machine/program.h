// A kernel as the machine runs it: its instructions, and where each register is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace ptx_machine {

constexpr unsigned kLanes = 32;
// A bit for each lane of a warp. Predicate registers are masks too.
using Mask = uint32_t;
constexpr Mask kAll = ~Mask{0};

class Warp;
struct Instruction;

// Carries out an instruction for the lanes of the mask.
using Step = void (*)(Warp&, const Instruction&, Mask);

enum class Flow : uint8_t {
  next,      // does the step, then goes on to the next instruction
  together,  // the same, once all the lanes that take part are here
  branch,    // goes to `target`
  leave,     // ends the thread
  barrier,   // waits for other warps
  arrive,    // tells other warps that this one is here
};

// What a step needs to know. Registers and constants are named by their places.
struct Instruction {
  Step step = nullptr;
  Flow flow = Flow::next;
  bool guard_negated = false;
  uint8_t address_bits = 64;  // of the register that an address begins with
  uint32_t guard = 0;         // a predicate; 0: none
  uint32_t count = 0;
  const uint32_t* operands = nullptr;  // in the order of the text
  // A number that the instruction itself has, such as the offset of an address.
  int64_t immediate = 0;
  // All that the instruction's name says, of a type that its step knows. Program::details owns it.
  const void* details = nullptr;
  uint32_t target = 0;  // the index of an instruction
  // The operand that says which lanes take part. 0: all of the warp; in barriers, all that have not left.
  uint32_t members = 0;
};

// A warp's registers are in one block of memory, and a place is an offset into it, in bytes. A register holds the
// values of the 32 lanes one after the other. A constant is a register that nothing writes.
struct Constant {
  uint32_t place;
  unsigned bits;  // 1 for predicates
  uint64_t value;
};

enum class Special { thread, threads, block, blocks, lane, warp, lanes_below };

struct SpecialRegister {
  Special which;
  size_t axis;
  uint32_t place;
};

struct Program {
  std::vector<Instruction> instructions;
  // The text of each instruction.
  std::vector<std::string> lines;
  std::vector<Constant> constants;
  std::vector<SpecialRegister> specials;
  // Place 0 means that there is no register.
  uint32_t register_bytes = 64;
  // Local memory of each thread.
  size_t local_bytes = 0;
  // The address at which dynamic shared memory begins.
  uint32_t dynamic_shared = 0;
  // The registers of sums and of A that instructions of wgmma name.
  std::set<uint32_t> product_registers;
  // The module's tables in global memory that the kernel reads.
  std::vector<std::vector<uint64_t>> tables;
  // What instructions point to.
  std::vector<std::unique_ptr<uint32_t[]>> operands;
  std::vector<std::shared_ptr<const void>> details;
};

// Shared memory begins at this address, since the first KiB of it belongs to the system. Its generic addresses lie
// above all addresses of the host.
constexpr uint32_t kSharedBegin = 1024;
constexpr uint64_t kSharedWindow = uint64_t{1} << 52;

}  // namespace ptx_machine
