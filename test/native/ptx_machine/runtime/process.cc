// What the fake needs of a program whose kernels are PTX. The environment says which GPU it has: MOE_PTX_CAPABILITY,
// such as 90, MOE_PTX_TIMING, a name of fake::Timing, MOE_PTX_ASYNC, late or early, for Launch::background, and
// MOE_PTX_TURNS, a number for Launch::turns.
#include <charconv>
#include <cstdlib>

#include "modules.h"

namespace fake {
namespace {

using ptx_machine::say;

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

}  // namespace

void begin(State& state) {
  state.driver = CUDART_VERSION;
  // NaN patterns.
  state.garbage = 0xff;
  const std::string capability = variable("MOE_PTX_CAPABILITY", "90");
  const std::string timing = variable("MOE_PTX_TIMING", "none_early");
  const std::map<std::string, Timing> timings = {{"none_early", Timing::none_early},
                                                 {"first_early", Timing::first_early},
                                                 {"second_early", Timing::second_early},
                                                 {"third_early", Timing::third_early}};
  if (const auto found = timings.find(timing); found != timings.end()) {
    state.timing = found->second;
  } else {
    return say("MOE_PTX_TIMING: expected none_early, first_early, second_early or third_early, got " + timing +
               "; there is no GPU");
  }
  const std::string async = variable("MOE_PTX_ASYNC", "late");
  if (async != "late" && async != "early") {
    return say("MOE_PTX_ASYNC: expected late or early, got " + async + "; there is no GPU");
  }
  ptx_machine::background = async == "early" ? ptx_machine::Background::early : ptx_machine::Background::late;
  const std::string turns = variable("MOE_PTX_TURNS", "0");
  const char* end = turns.data() + turns.size();
  if (const auto read = std::from_chars(turns.data(), end, ptx_machine::turns);
      read.ec != std::errc() || read.ptr != end) {
    return say("MOE_PTX_TURNS: expected a whole number below 2^32, got " + turns + "; there is no GPU");
  }
  if (capability != "80" && capability != "86" && capability != "89" && capability != "90") {
    return say("MOE_PTX_CAPABILITY: expected 80, 86, 89 or 90, got " + capability + "; there is no GPU");
  }
  state.gpus = {
      {.name = "PTX machine", .major = capability[0] - '0', .minor = capability[1] - '0', .memory = size_t{8} << 30}};
  state.used.assign(state.gpus.size(), 0);
  state.code.assign(state.gpus.size(), 0);
}

cudaError_t load(const Gpu& gpu, const void* function, LoadedKernel* loaded) {
  std::shared_ptr<const ptx_machine::Kernel> kernel;
  const cudaError_t failure = ptx_machine::find_kernel(gpu, function, &kernel);
  if (failure != cudaSuccess) return failure;
  loaded->static_shared = kernel->static_shared_bytes;
  loaded->most_threads = kernel->most_threads;
  return cudaSuccess;
}

void report(const std::string& problem) { say(problem); }

}  // namespace fake
