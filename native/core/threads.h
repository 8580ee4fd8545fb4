// Threads of one scope.
#pragma once

#include <thread>
#include <utility>
#include <vector>

namespace moe {

// Joins its threads at the end of the scope, also if starting one of them throws.
class Threads {
 public:
  Threads() = default;
  ~Threads() {
    for (std::thread& thread : threads_) thread.join();
  }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  template <class... Arguments>
  void start(Arguments&&... arguments) {
    threads_.emplace_back(std::forward<Arguments>(arguments)...);
  }

 private:
  std::vector<std::thread> threads_;
};

}  // namespace moe
