// The GPUs' memory, and what of the host's they can read and write.
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <new>

#include "state.h"

using namespace fake;

namespace fake {
namespace {

constexpr std::align_val_t kAlignment{256};
constexpr size_t kMostRetired = 1000, kMostRetiredBytes = size_t{256} << 20;

// Whether memory belongs to a GPU.
bool on_gpu(const void* data) {
  const auto& blocks = state().blocks;
  const char* place = static_cast<const char*>(data);
  const auto after = blocks.upper_bound(place);
  return after != blocks.begin() && place < std::prev(after)->first + std::prev(after)->second.bytes;
}

// At the time when a copy is done.
void access(const void* data, size_t bytes) {
  if (on_gpu(data)) return use(data, bytes);
  const char* begin = static_cast<const char*>(data);
  const bool pinned = std::any_of(state().pinned.begin(), state().pinned.end(), [&](const auto& each) {
    return begin >= each.first && begin + bytes <= each.first + each.second;
  });
  if (!pinned) problem("a copy uses memory of the host that is not pinned");
}

// Released memory stays for a while.
void retire(const char* data, size_t bytes) {
  State& s = state();
  s.retired.push_back(data);
  s.retired_bytes += bytes;
  while (s.retired.size() > kMostRetired || s.retired_bytes > kMostRetiredBytes) {
    const auto oldest = s.blocks.find(s.retired.front());
    s.retired.pop_front();
    s.retired_bytes -= oldest->second.bytes;
    delete_memory(oldest->first);
    s.blocks.erase(oldest);
  }
}

}  // namespace

char* make_memory(size_t bytes) {
  char* data = static_cast<char*>(operator new(bytes, kAlignment));
  std::memset(data, state().garbage, bytes);
  return data;
}

bool has_memory(int device, size_t bytes) {
  const State& s = state();
  const auto index = static_cast<size_t>(device);
  return s.used[index] + s.code[index] + bytes <= s.gpus[index].memory;
}

void delete_memory(const char* data) { operator delete(const_cast<char*>(data), kAlignment); }

}  // namespace fake

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps* properties) {
  FAKE_CALL_OFF_STREAMS();
  *pool = new CUmemPoolHandle_st{properties->location.id};
  s.pools.insert(*pool);
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  FAKE_CALL_OFF_STREAMS();
  return fake::destroy(s.pools, pool);
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) {
  FAKE_CALL_OFF_STREAMS();
  return cudaSuccess;
}

// Gives back what is released.
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t) {
  FAKE_CALL_OFF_STREAMS();
  size_t& used = s.used[static_cast<size_t>(pool->device)];
  used = 0;
  for (const auto& [data, block] : s.blocks) {
    if (block.device == pool->device && block.outstanding()) used += block.bytes;
  }
  return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void** data, size_t bytes, cudaMemPool_t pool, cudaStream_t stream) {
  FAKE_CALL_OFF_STREAMS();
  const auto device = static_cast<size_t>(pool->device);
  if (bytes == 0) return cudaErrorInvalidValue;
  if (!has_memory(pool->device, bytes)) return cudaErrorMemoryAllocation;
  if (stream->captured) problem("memory is allocated in a capture");
  char* made = make_memory(bytes);
  s.blocks[made] = {.bytes = bytes, .device = pool->device};
  // The stream's next work may use it; that of other streams must wait for this.
  const cudaError_t failed = enqueue(stream, [made] { state().blocks[made].usable = true; });
  if (failed != cudaSuccess) {
    s.blocks.erase(made);
    delete_memory(made);
    return failed;
  }
  s.used[device] += bytes;
  *data = made;
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  FAKE_CALL();
  const auto found = s.blocks.find(static_cast<char*>(data));
  if (found == s.blocks.end() || found->second.released) {
    problem("memory of the GPU is released that it does not have");
    return cudaErrorInvalidValue;
  }
  if (stream->captured) {
    stream->invalidated = true;
    problem("memory that is not a graph's is released in a capture");
    return cudaErrorInvalidValue;
  }
  found->second.released = true;
  found->second.queue = stream->queue;
  found->second.position = stream->queue->enqueued + 1;
  return enqueue(stream, [made = static_cast<char*>(data)] {
    const auto at = state().blocks.find(made);
    if (at == state().blocks.end() || !at->second.usable) {
      return problem("memory of the GPU is released before it is allocated");
    }
    at->second.usable = false;
    std::memset(made, 0xdd, at->second.bytes);
    retire(made, at->second.bytes);
  });
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  FAKE_CALL_OFF_STREAMS();
  const auto device = static_cast<size_t>(current_device);
  *total = s.gpus[device].memory;
  *free = *total - s.used[device] - s.code[device];
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  FAKE_CALL_OFF_STREAMS();
  char* made = make_memory(bytes);
  s.pinned[made] = bytes;
  *data = made;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  FAKE_CALL_OFF_STREAMS();
  char* made = static_cast<char*>(data);
  if (s.pinned.erase(made) == 0) return cudaErrorInvalidValue;
  delete_memory(made);
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void* data, size_t bytes, unsigned) {
  FAKE_CALL_OFF_STREAMS();
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  if (reinterpret_cast<uintptr_t>(data) % page != 0 || bytes % page != 0) problem("a part of a page is pinned");
  if (!s.pinned.emplace(static_cast<char*>(data), bytes).second) return cudaErrorHostMemoryAlreadyRegistered;
  return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* data) {
  FAKE_CALL_OFF_STREAMS();
  return s.pinned.erase(static_cast<char*>(data)) == 0 ? cudaErrorHostMemoryNotRegistered : cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  FAKE_CALL();
  if (kind == cudaMemcpyHostToDevice && (!on_gpu(to) || on_gpu(from))) return cudaErrorInvalidValue;
  return enqueue(stream, [=] {
    access(to, bytes);
    access(from, bytes);
    std::memcpy(to, from, bytes);
  });
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  FAKE_CALL();
  return enqueue(stream, [=] {
    access(data, bytes);
    std::memset(data, value, bytes);
  });
}
