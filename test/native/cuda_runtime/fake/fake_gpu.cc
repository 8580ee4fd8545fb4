#include "fake_gpu.h"

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "state.h"

namespace fake {

thread_local int current_device = 0;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

State& state() {
  // Never destroyed: a stream may launch while the process exits.
  static State& all = []() -> State& {
    State& made = *new State;
    begin(made);
    std::atexit([] {
      const std::lock_guard lock(state().mutex);
      state().ended = true;
    });
    return made;
  }();
  return all;
}

void start(std::vector<Gpu> gpus, int driver, Timing timing) {
  State& s = state();
  s.used.assign(gpus.size(), 0);
  s.code.assign(gpus.size(), 0);
  s.gpus = std::move(gpus);
  s.driver = driver;
  s.timing = timing;
  s.streams_made = 0;
  succeed();
  s.problems.clear();
  for (const auto& [data, block] : s.blocks) delete_memory(data);
  s.blocks.clear();
  s.retired.clear();
  s.retired_bytes = 0;
  s.fault = cudaSuccess;
  s.late_calls = false;
  current_device = 0;
  capture_mode = cudaStreamCaptureModeGlobal;
  s.opened.clear();
}

void call_late() { state().late_calls = true; }

void finish() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  for (const void* each : s.streams) {
    Queue& queue = *static_cast<const CUstream_st*>(each)->queue;
    queue.run_to(queue.enqueued);
  }
}

void fail(const std::string& call, cudaError_t error) {
  State& s = state();
  s.failing = call;
  s.failure = error;
}

void fail_once(int index, cudaError_t error) {
  State& s = state();
  s.once = error;
  s.once_at = index;
  s.failed_once = false;
}

bool failed_once() { return state().failed_once; }

void succeed() {
  State& s = state();
  s.failure = s.once = cudaSuccess;
  s.once_at = -1;
}

void use(const void* data, size_t bytes) {
  const State& s = state();
  const char* first = static_cast<const char*>(data);
  const auto after = s.blocks.upper_bound(first);
  const auto found = after == s.blocks.begin() ? s.blocks.end() : std::prev(after);
  if (found == s.blocks.end() || first + bytes > found->first + found->second.bytes) {
    problem("memory is used that the GPU does not have");
  } else if (!found->second.usable) {
    problem("memory of the GPU is used before it is allocated or after it is released");
  }
}

void problem(const std::string& text) {
  State& s = state();
  report(text);
  if (std::find(s.problems.begin(), s.problems.end(), text) == s.problems.end()) s.problems.push_back(text);
}

std::string opened_gpus() {
  std::string text;
  for (const int device : state().opened) text += (text.empty() ? "" : ", ") + std::to_string(device);
  return text;
}

std::vector<std::string> problems() { return state().problems; }

std::string left() {
  State& s = state();
  const auto kept =
      std::count_if(s.blocks.begin(), s.blocks.end(), [](const auto& each) { return !each.second.released; });
  std::string text;
  const auto add = [&](size_t count, const char* what) {
    if (count > 0) text += (text.empty() ? "" : ", ") + std::to_string(count) + " " + what;
  };
  add(s.streams.size(), "streams");
  add(s.events.size(), "events");
  add(s.pools.size(), "pools");
  add(s.graphs.size() + s.executables.size(), "graphs");
  add(s.pinned.size(), "pinned");
  add(static_cast<size_t>(kept), "blocks");
  return text;
}

}  // namespace fake

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define FAKE_NAME(NAME) \
  case NAME: return #NAME;
    FAKE_NAME(cudaErrorInvalidValue)
    FAKE_NAME(cudaErrorMemoryAllocation)
    FAKE_NAME(cudaErrorInitializationError)
    FAKE_NAME(cudaErrorCudartUnloading)
    FAKE_NAME(cudaErrorInvalidConfiguration)
    FAKE_NAME(cudaErrorStubLibrary)
    FAKE_NAME(cudaErrorInsufficientDriver)
    FAKE_NAME(cudaErrorDevicesUnavailable)
    FAKE_NAME(cudaErrorInvalidDeviceFunction)
    FAKE_NAME(cudaErrorNoDevice)
    FAKE_NAME(cudaErrorNoKernelImageForDevice)
    FAKE_NAME(cudaErrorInvalidPtx)
    FAKE_NAME(cudaErrorUnsupportedPtxVersion)
    FAKE_NAME(cudaErrorInvalidResourceHandle)
    FAKE_NAME(cudaErrorIllegalAddress)
    FAKE_NAME(cudaErrorLaunchFailure)
    FAKE_NAME(cudaErrorSystemNotReady)
    FAKE_NAME(cudaErrorStreamCaptureUnsupported)
    FAKE_NAME(cudaErrorStreamCaptureInvalidated)
    FAKE_NAME(cudaErrorCapturedEvent)
    FAKE_NAME(cudaErrorUnknown)
#undef FAKE_NAME
    default: return "cudaError";
  }
}

const char* cudaGetErrorString(cudaError_t) { return "what it means"; }
