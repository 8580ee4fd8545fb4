#include "modules.h"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <set>

#include "fat_binary.h"

namespace ptx_machine {
namespace {

struct Module {
  const void* wrapper;
};

struct Function {
  const Module* module;
  const char* name;
};

// Filled in before anything else of the program has begun.
struct Registry {
  std::mutex mutex;
  std::map<const void*, Function> functions;
  std::map<std::pair<int, const void*>, std::shared_ptr<const Kernel>> kernels;
  std::set<std::string> launched;
};

Registry& registry() {
  // Never destroyed: a stream may launch while the process exits.
  static Registry& all = *new Registry;
  return all;
}

}  // namespace

void say(const std::string& text) { std::fprintf(stderr, "moe ptx machine: %s\n", text.c_str()); }

cudaError_t find_kernel(const fake::Gpu& gpu, const void* function, std::shared_ptr<const Kernel>* kernel) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const int capability = 10 * gpu.major + gpu.minor;
  std::shared_ptr<const Kernel>& read = all.kernels[{capability, function}];
  if (read == nullptr) {
    const auto found = all.functions.find(function);
    if (found == all.functions.end()) return cudaErrorInvalidDeviceFunction;
    const auto& [module, name] = found->second;
    try {
      const std::string_view text = find_ptx(module->wrapper, capability);
      if (text.empty()) return cudaErrorNoKernelImageForDevice;
      read = std::make_shared<const Kernel>(read_kernel(text, name));
    } catch (const std::exception& error) {
      say(std::string(name) + ": " + error.what());
      return cudaErrorInvalidPtx;
    }
  }
  *kernel = read;
  return cudaSuccess;
}

void note_launch(const std::string& kernel) {
  static const char* const path = std::getenv("MOE_PTX_KERNELS");
  if (path == nullptr) return;
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::string lines;
  if (all.launched.empty()) {
    for (const auto& [function, found] : all.functions) lines += std::string("of ") + found.name + "\n";
  }
  if (!all.launched.insert(kernel).second) return;
  lines += kernel + "\n";
  // In one piece, as other processes write there too.
  if (std::FILE* file = std::fopen(path, "a"); file != nullptr) {
    std::fwrite(lines.data(), 1, lines.size(), file);
    std::fclose(file);
  }
}

}  // namespace ptx_machine

using namespace ptx_machine;

// What nvcc's code calls, whose declarations CUDA has for that code alone.
extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) { return reinterpret_cast<void**>(new Module{wrapper}); }

void __cudaRegisterFatBinaryEnd(void**) {}

// Streams may launch until the very end.
void __cudaUnregisterFatBinary(void**) {}

// Files that share a kernel's template share its function too. Any one's code will do.
void __cudaRegisterFunction(void** module, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*,
                            dim3*, int*) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.functions.emplace(function, Function{reinterpret_cast<const Module*>(module), name});
}

}  // extern "C"
