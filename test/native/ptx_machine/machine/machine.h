// Runs kernels of PTX on the CPU, thread for thread. machine.cc says how.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ptx_machine {

// What a GPU would stop a kernel for, with the kernel, the thread and the instruction.
struct Fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Program;

// A kernel that is ready to run.
struct Kernel {
  std::string name;
  // Of each parameter, and where it begins in the block of parameters.
  struct Parameter {
    size_t offset, bytes;
  };
  std::vector<Parameter> parameters;
  size_t parameter_bytes = 0;
  size_t static_shared_bytes = 0;
  // The most that a block may have (.maxntid); 1024 if the kernel does not say.
  unsigned most_threads = 1024;
  std::shared_ptr<const Program> program;
};

// The kernel of this name in a module's text. Throws a std::runtime_error that names what is not known or not there.
Kernel read_kernel(std::string_view module, const std::string& name);

// Memory that kernels may use.
struct Range {
  const void* data;
  size_t bytes;
};

struct Launch {
  std::array<unsigned, 3> grid, block;
  size_t dynamic_shared_bytes;
  // parameter_bytes of the kernel.
  std::vector<std::byte> parameters;
};

// Runs all blocks of a launch. `memory` is sorted by address. Throws a Fault.
void run(const Kernel& kernel, const Launch& launch, std::span<const Range> memory);

}  // namespace ptx_machine
