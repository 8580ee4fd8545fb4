// The state of the fake CUDA runtime.
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

// An in-order queue of a GPU. Work that waits for an event first does what the event is behind.
struct Queue {
  int device = 0;
  bool early = false;
  std::deque<Work> work;
  uint64_t enqueued = 0, done = 0;

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
  bool released = false;  // cudaFreeAsync was called
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
  std::map<char*, Block> blocks;
  std::map<const char*, size_t> pinned;
  std::vector<size_t> used;  // of each GPU's memory; pools keep what is released
  std::set<const void*> streams, events, pools, graphs, executables;
  std::set<std::pair<int, const void*>> loaded;
  std::map<std::pair<int, const void*>, size_t> dynamic_limits;
  std::map<const void*, size_t> static_shared;
};

State& state();
// What a function of this name does first: fails if it is to.
cudaError_t enter(const char* name);
// A call that must not be made while its thread captures a stream, which then fails.
bool breaks_capture();
// Work of the calling thread's device, or of a graph while the stream is captured.
cudaError_t enqueue(cudaStream_t stream, Work work);
void problem(const std::string& text);
// Deletes one of these; `unknown` if it is none of them.
template <class Object>
cudaError_t destroy(std::set<const void*>& objects, Object* object, cudaError_t unknown = cudaErrorInvalidValue) {
  if (objects.erase(object) == 0) return unknown;
  delete object;
  return cudaSuccess;
}
// Where the calling thread is.
extern thread_local int current_device;
// The stream that it captures.
extern thread_local struct ::CUstream_st* capturing;

}  // namespace fake

#define FAKE_CALL()                    \
  fake::State& s = fake::state();      \
  const std::lock_guard lock(s.mutex); \
  if (const cudaError_t failure = fake::enter(__func__); failure != cudaSuccess) return failure

struct CUstream_st {
  std::shared_ptr<fake::Queue> queue;
  bool captured = false, invalidated = false;
  std::thread::id thread = {};
  std::vector<fake::Work> recorded = {};
};

struct CUevent_st {
  int device;
  bool timed;
  std::shared_ptr<fake::Queue> queue;  // null: not recorded
  uint64_t position = 0;
};

struct CUmemPoolHandle_st {
  int device;
};

struct CUgraph_st {
  std::vector<fake::Work> work;
};

struct CUgraphExec_st {
  std::vector<fake::Work> work;
};
