// Runs kernels of PTX on the CPU. machine.cc says how.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptx_machine {

// What a GPU would stop a kernel for. The message names the kernel, the block, the lanes and the instruction.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Program;

// A kernel that is ready to run.
struct Kernel {
  std::string name;
  // The parameters' places in the memory that holds them all.
  struct Parameter {
    size_t offset, bytes;
  };
  std::vector<Parameter> parameters;
  size_t parameter_bytes = 0;
  size_t static_shared_bytes = 0;
  // The threads that a block may have at most (.maxntid).
  unsigned most_threads = 1024;
  std::shared_ptr<const Program> program;
};

// The kernel of this name in a module's text. Throws a std::runtime_error if it is not there, or has a statement that
// the machine does not know.
Kernel read_kernel(std::string_view module, const std::string& name);

// Memory that a kernel may use.
struct Range {
  const void* data;
  size_t bytes;
};

// When copies of cp.async and products of wgmma are done. A GPU may do them at any time until the kernel waits: `late`
// finds what is used too early, and what a product reads that changes too early; `early` finds what a copy overwrites
// too early.
enum class Background { late, early };

struct Launch {
  std::array<unsigned, 3> grid, block;
  size_t dynamic_shared_bytes = 0;
  // As many as the kernel's parameter_bytes.
  std::vector<std::byte> parameters;
  Background background = Background::late;
  // Of chance, by which the warps of a block change places. 0: each warp in turn runs until it waits.
  uint32_t turns = 0;
  // Instructions after which a warp that has not ended is a fault: more than any test needs.
  uint64_t most_steps = uint64_t{1} << 34;
};

// Runs all blocks of a launch. `memory` is sorted by address. Throws a Fault.
void run(const Kernel& kernel, const Launch& launch, std::span<const Range> memory);

}  // namespace ptx_machine
