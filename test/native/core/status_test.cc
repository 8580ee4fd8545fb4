#include "core/status.h"

#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "check.h"

using moe::Code;
using moe::guarded;
using moe::Status;

namespace {

template <class Exception>
Status thrown(const Exception& exception) {
  return guarded([&]() -> Status { throw exception; });
}

bool says(const Status& status, const std::string& part) {
  return std::string(status.text()).find(part) != std::string::npos;
}

}  // namespace

MOE_TEST(whatever_is_thrown_is_a_status) {
  MOE_CHECK(guarded([] { return Status(Code::disposed, "gone"); }).code == Code::disposed);
  MOE_CHECK(thrown(std::bad_alloc()).code == Code::out_of_memory);
  MOE_CHECK(thrown(std::length_error("vector")).code == Code::out_of_memory);
  const Status no_thread = thrown(std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again)));
  MOE_CHECK(no_thread.code == Code::out_of_memory && says(no_thread, "threads"));
  const Status logic = thrown(std::out_of_range("index 7"));
  MOE_CHECK(logic.code == Code::internal && says(logic, "index 7"));
  MOE_CHECK(thrown(7).code == Code::internal);
}

MOE_TEST(a_status_without_a_message_has_a_text) {
  const Status status = thrown(std::bad_alloc());
  MOE_CHECK(status.message.empty());
  MOE_CHECK(says(status, "ran out of host memory"));
}
