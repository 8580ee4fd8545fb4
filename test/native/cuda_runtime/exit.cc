// A program that ends while a stream's work uses CUDA. Succeeds if none is used once CUDA has ended.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "core/stream.h"
#include "fake_gpu.h"
#include "gpu/runtime/runtime.h"

namespace {

std::atomic<bool> begun = false, ending = false, done = false, began_another = false;

// After CUDA has ended.
void judge() {
  while (!done) std::this_thread::yield();
  for (const std::string& problem : fake::problems()) std::fprintf(stderr, "%s\n", problem.c_str());
  if (began_another) std::fprintf(stderr, "work was begun while the process ended\n");
  if (began_another || !fake::problems().empty()) _exit(1);
}

}  // namespace

int main() {
  using namespace moe;
  // Called in reverse order.
  std::atexit(judge);
  fake::start({{}});
  std::unique_ptr<cuda::Runtime> opened;
  void* data = nullptr;
  if (!cuda::Runtime::open(0, {}, &opened).ok() || !opened->allocate(4, &data).ok()) return 2;
  std::atexit([] { ending = true; });
  // Nobody destroys them either where Node ends the process.
  cuda::Runtime* const runtime = opened.release();
  auto* const stream = new Stream;
  stream->enqueue([=] {
    begun = true;
    while (!ending) std::this_thread::yield();
    Status status;
    for (int i = 0; i < 20 && status.ok(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      status = runtime->fill(data, i, 4);
    }
    done = true;
    return status;
  });
  stream->enqueue([] {
    began_another = true;
    return Status();
  });
  while (!begun) std::this_thread::yield();
  return 0;
}
