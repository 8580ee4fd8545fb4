// The state of the fake CUDA runtime. The fake is also compiled against CUDA's own headers, for kernels of PTX.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "fake_gpu.h"

namespace fake {

using Work = std::function<void()>;

// Memory as aligned as CUDA's.
char* make_memory(size_t bytes);
void delete_memory(const char* data);

// A kernel on a device.
struct LoadedKernel {
  size_t static_shared = 0;
  unsigned most_threads = 1024;
  size_t dynamic_limit = 0;
};

// An in-order queue of a GPU. Work that waits for an event first does what the event is behind.
struct Queue {
  int device = 0;
  bool early = false;
  std::deque<Work> work;
  uint64_t enqueued = 0, done = 0;
  uint64_t observed = 0;  // of what is done, what somebody has waited for

  void push(Work next) {
    work.push_back(std::move(next));
    ++enqueued;
    if (early) run_to(enqueued);
  }
  void run_to(uint64_t position) {
    while (done < position) {
      const Work next = std::move(work.front());
      work.pop_front();
      ++done;
      next();
    }
  }
};

struct Block {
  size_t bytes;
  int device;
  bool usable = false;    // its allocation has been done, and its release has not
  bool released = false;  // cudaFreeAsync was called: the last of this work of a queue
  std::shared_ptr<Queue> queue = {};
  uint64_t position = 0;

  // Whether its pool must keep it, as far as is known.
  bool outstanding() const { return !released || usable || position > queue->observed; }
};

struct State {
  std::recursive_mutex mutex;
  std::vector<Gpu> gpus;
  int driver = 0;
  Timing timing = Timing::none_early;
  int streams_made = 0;
  // See fail().
  std::string failing;
  cudaError_t failure = cudaSuccess, once = cudaSuccess;
  int once_at = -1;
  bool failed_once = false;
  std::vector<std::string> problems;
  int garbage = 0xcd;               // every byte of fresh memory
  cudaError_t fault = cudaSuccess;  // of a kernel: all later calls return it
  bool ended = false;               // with the process
  bool late_calls = false;          // see call_late()
  bool calls_host = false;          // a stream does
  std::map<const char*, Block> blocks;
  // Of those, the ones that were released last, so that a use of them is told from that of other memory.
  std::deque<const char*> retired;
  size_t retired_bytes = 0;
  std::map<const char*, size_t> pinned;
  std::vector<size_t> used;  // of each GPU's memory; pools keep what is released
  std::vector<size_t> code;  // of each GPU's memory, for kernels and graphs
  std::set<int> opened;      // GPUs that the process has opened
  std::set<const void*> streams, events, pools, graphs, executables;
  std::map<std::pair<int, const void*>, LoadedKernel> loaded;
};

State& state();

// What every program with the fake defines. begin() sets up the state of a process, once.
void begin(State& state);
// Loads a kernel on a GPU, once: static_shared and most_threads are set.
cudaError_t load(const Gpu& gpu, const void* kernel, LoadedKernel* loaded);
// Told of each problem when it is found.
void report(const std::string& problem);

// What a function of this name does first: fails if it is to.
cudaError_t enter(const char* name);
// Of a call that is not put on a stream, which captures of streams may forbid: whether any does. Those that do have
// failed then. CUDA has no list of such calls; here they are all that make, destroy, wait for or load something.
bool breaks_captures();
// Work of the calling thread's device, or of a graph while the stream is captured.
cudaError_t enqueue(cudaStream_t stream, Work work);
void problem(const std::string& text);
// Whether a GPU has this much memory left.
bool has_memory(int device, size_t bytes);
// Deletes one of these; `unknown` if it is none of them.
template <class Object>
cudaError_t destroy(std::set<const void*>& objects, Object* object, cudaError_t unknown = cudaErrorInvalidValue) {
  if (objects.erase(object) == 0) return unknown;
  delete object;
  return cudaSuccess;
}
// Where the calling thread is.
extern thread_local int current_device;
// How it gets along with captures.
extern thread_local cudaStreamCaptureMode capture_mode;

}  // namespace fake

#define FAKE_CALL()                    \
  fake::State& s = fake::state();      \
  const std::lock_guard lock(s.mutex); \
  if (const cudaError_t failure = fake::enter(__func__); failure != cudaSuccess) return failure

#define FAKE_CALL_OFF_STREAMS() \
  FAKE_CALL();                  \
  if (fake::breaks_captures()) return cudaErrorStreamCaptureUnsupported

// Enqueues a kernel, or says why CUDA would not.
cudaError_t fake_launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> run);

struct CUstream_st {
  std::shared_ptr<fake::Queue> queue;
  bool blocking = false;  // work of the legacy stream waits for it, and it for that
  bool captured = false, invalidated = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread = {};
  std::vector<fake::Work> recorded = {};
};

struct CUevent_st {
  int device;
  bool timed;
  std::shared_ptr<fake::Queue> queue;  // null: not recorded
  uint64_t position = 0;
  bool captured = false;
};

struct CUmemPoolHandle_st {
  int device;
};

struct CUgraph_st {
  std::vector<fake::Work> work;
};

struct CUgraphExec_st {
  int device;
  std::vector<fake::Work> work;
};
