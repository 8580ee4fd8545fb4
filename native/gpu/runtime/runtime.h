// What the backend needs of a GPU's runtime: memory, copies, one stream, clocks. runtime.cu and
// uploads.cu in native/gpu/target/cuda implement it for CUDA, native/gpu/target/simt/runtime.cc for the simulated GPU.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "core/backend.h"
#include "gpu/runtime/device_traits.h"

#include <ptx/device.cuh>

namespace moe::MOE_GPU_NAMESPACE {

// Launches recorded with their arguments, to be enqueued again all at once.
struct Graph;

// A part of device memory to be copied to the host's.
struct Download {
  void* host;
  const void* device;
  size_t bytes;
};

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
  // After the last work: a stream of the caller's is not used any more. Memory is released in order all the same.
  void release_stream() noexcept;
  // Makes this device the calling thread's, for the launches that follow.
  Status use();

  // May be called from any thread. Memory is released in stream order, after the work enqueued so far.
  Status allocate(size_t bytes, void** data);
  void release(void* data);
  // Enqueues setting every byte.
  Status fill(void* data, int value, size_t bytes);
  // Host to device, in stream order. `host` may be reused on return.
  Status write(void* device, const void* host, size_t bytes);
  // Device to host, complete on return, as is all work enqueued so far. A copy is enqueued before the host waits for
  // the one before it.
  Status read(std::span<const Download> downloads);
  Status read(void* host, const void* device, size_t bytes) {
    const Download download{host, device, bytes};
    return read({&download, 1});
  }
  // Pins whole pages of the host's memory, so that Uploads can read them. Takes time.
  Status pin(void* data, size_t bytes);
  void unpin(void* data);
  // See Backend::settle(). An error of the work is that of the next wait.
  Status settle(std::function<void()> then = {}) noexcept;

  // Records what `work` launches on the given stream instead of running it. `work` must neither allocate nor wait, and
  // what its launches point to must outlive the graph. It is called twice: the first call only prepares its kernels,
  // because a GPU cannot load one while recording.
  Status record(const std::function<Status(Stream)>& work, std::shared_ptr<const Graph>* graph);
  // Enqueues the launches of a graph.
  Status launch(const Graph& graph);

 private:
  struct State;
  explicit Runtime(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Working memory, released in stream order at the end of its scope.
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

// Host memory that Uploads can read once it is pinned, released at the end of its scope.
class PinnedMemory {
 public:
  explicit PinnedMemory(Runtime& runtime) : runtime_(runtime) {}
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory&) = delete;
  PinnedMemory& operator=(const PinnedMemory&) = delete;

  Status reserve(size_t bytes);
  // Idempotent.
  Status pin();
  char* at(size_t offset) const { return static_cast<char*>(data_) + offset; }

 private:
  Runtime& runtime_;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  bool pinned_ = false;
};

// Copies from pinned memory to the device, in order, beside the enqueued work. All functions only enqueue. Memory that
// copies read and write must outlive the uploads, which wait for their copies at the end.
class Uploads {
 public:
  static Status create(Runtime& runtime, std::unique_ptr<Uploads>* uploads);
  ~Uploads();
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;

  Status copy(void* device, const void* host, size_t bytes);
  // Copies from here on wait for the work enqueued so far.
  Status after_work();
  // Sets mark `index` behind the copies so far.
  Status mark(size_t index);
  // Work enqueued from here on waits for the copies before mark `index`.
  Status before_work(size_t index);
  // Waits for the copies so far.
  void wait() noexcept;

 private:
  struct State;
  explicit Uploads(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

// Times parts of the enqueued work: marks 0 .. kMarks - 1 are placed between them.
class StageClock {
 public:
  // One mark before the first stage and one after each.
  static constexpr int kMarks = kStageCount + 1;

  static Status create(Runtime& runtime, std::unique_ptr<StageClock>* clock);
  ~StageClock();
  StageClock(const StageClock&) = delete;
  StageClock& operator=(const StageClock&) = delete;

  Status mark(int index);
  // Seconds between two marks of the work that was marked last; waits for it. 0 if none was.
  double seconds(int from, int to) const;

 private:
  struct State;
  explicit StageClock(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace moe::MOE_GPU_NAMESPACE
