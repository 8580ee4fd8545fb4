#include "simt/work_queue.h"

#include <stdexcept>
#include <string>

#include "check.h"

namespace moe::simt::test {

MOE_TEST(work_is_done_at_once_and_returns_its_failure) {
  WorkQueue queue(false);
  bool done = false;
  const auto work = [&]() -> Status {
    done = true;
    return {Code::internal, "mine"};
  };
  MOE_CHECK_EQUAL(queue.submit(work).message, "mine");
  MOE_CHECK(done);
  MOE_CHECK(queue.finish().ok());
}

MOE_TEST(late_work_is_done_in_order_at_the_wait_which_returns_the_first_failure) {
  WorkQueue queue(true);
  std::string done;
  const auto submit = [&](char name, Status status) {
    return queue.submit([&done, name, status]() -> Status {
      done += name;
      if (name == 'x') throw std::runtime_error("thrown");
      return status;
    });
  };
  MOE_CHECK(submit('a', {}).ok());
  MOE_CHECK(submit('x', {}).ok());
  MOE_CHECK(submit('b', {Code::internal, "second"}).ok());
  MOE_CHECK_EQUAL(done, "");
  queue.run();
  MOE_CHECK_EQUAL(done, "axb");
  MOE_CHECK(submit('c', {}).ok());
  MOE_CHECK(queue.finish().message.find("thrown") != std::string::npos);
  MOE_CHECK_EQUAL(done, "axbc");
  MOE_CHECK(queue.finish().ok());
}

}  // namespace moe::simt::test
