// What is recorded is done by every launch of a graph, so it may only launch kernels.
#include <utility>

#include "check.h"
#include "gpu/runtime/runtime.h"

namespace moe::simt {

MOE_TEST(recorded_work_may_only_launch_kernels) {
  std::unique_ptr<Runtime> runtime;
  MOE_CHECK(Runtime::open(0, {}, &runtime).ok());
  void* memory = nullptr;
  MOE_CHECK(runtime->allocate(4, &memory).ok());
  int number = 0;
  const std::pair<const char*, std::function<Status()>> mistakes[] = {
      {"allocate", [&] { return Scratch(*runtime).reserve(4); }},
      {"fill", [&] { return runtime->fill(memory, 0, 4); }},
      {"write", [&] { return runtime->write(memory, &number, 4); }},
      {"read", [&] { return runtime->read(&number, memory, 4); }},
  };
  for (const auto& [name, mistake] : mistakes) {
    std::shared_ptr<const Graph> graph;
    const Status status = runtime->record([&](Stream) { return mistake(); }, &graph);
    MOE_CHECK_EQUAL(status.message,
                    std::string(name) + " by work that is being recorded, which may only launch kernels");
    MOE_CHECK(graph == nullptr && mistake().ok());
  }
  runtime->release(memory);
}

}  // namespace moe::simt
