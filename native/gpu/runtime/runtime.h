// The little of a GPU's runtime that the backend needs: memory, copies, one stream, clocks. runtime.cu has it for CUDA,
// native/gpu/target/simt/runtime.cc for the simulated GPU.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/backend.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Launches recorded with their arguments, to be enqueued again all at once.
struct Graph;

class Runtime {
 public:
  static Status open(int index, const DeviceOptions& options, std::unique_ptr<Runtime>* runtime);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const gpu::DeviceTraits& traits() const;
  const std::string& description() const;
  bool host_addressable() const;
  Stream stream() const;
  // Makes this device the calling thread's, for the launches that follow.
  Status use();

  // From any thread. Memory is given back in the order of the stream, after the work enqueued before.
  Status allocate(size_t bytes, void** data);
  void release(void* data);
  // Enqueues the setting of every byte.
  Status fill(void* data, int value, size_t bytes);
  // Host to device, in order on the stream; `host` may be reused on return.
  Status write(void* device, const void* host, size_t bytes);
  // Device to host, complete on return.
  Status read(void* host, const void* device, size_t bytes);
  // Waits for all work enqueued so far.
  Status synchronize();

  // Records what `work` launches on the stream that it is given, in place of running it. `work` must neither allocate
  // nor wait; what its launches point to must outlive the graph. It is called twice: the launches of the first call
  // only make their kernels ready, as a GPU cannot load one while it records.
  Status record(const std::function<Status(Stream)>& work, std::shared_ptr<const Graph>* graph);
  // Enqueues the launches of a graph.
  Status launch(const Graph& graph);

 private:
  struct State;
  explicit Runtime(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Working memory, given back at the end of its scope, in the order of the stream.
class Scratch {
 public:
  explicit Scratch(Runtime& runtime) : runtime_(runtime) {}
  ~Scratch() {
    if (data_ != nullptr) runtime_.release(data_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  Status reserve(size_t bytes) { return bytes > 0 ? runtime_.allocate(bytes, &data_) : Status{}; }
  char* at(size_t offset) const { return static_cast<char*>(data_) + offset; }

 private:
  Runtime& runtime_;
  void* data_ = nullptr;
};

// Times the parts of what is enqueued: marks 0 .. kMarks-1 are put between them.
class StageClock {
 public:
  // A mark before the first stage and one after each.
  static constexpr int kMarks = kStageCount + 1;

  static Status create(Runtime& runtime, std::unique_ptr<StageClock>* clock);
  ~StageClock();
  StageClock(const StageClock&) = delete;
  StageClock& operator=(const StageClock&) = delete;

  Status mark(int index);
  // Seconds between two marks of the work that was marked last; waits for it. 0 before any.
  double seconds(int from, int to) const;

 private:
  struct State;
  explicit StageClock(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
