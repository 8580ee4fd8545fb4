#include "core/device_name.h"

#include "check.h"

namespace {

using moe::Code;

}  // namespace

MOE_TEST(a_device_name_is_a_kind_and_a_number) {
  int index = -1;
  MOE_CHECK(moe::device_index("cpu", &index).ok());
  MOE_CHECK_EQUAL(index, 0);
  MOE_CHECK(moe::device_index("cuda:17", &index).ok());
  MOE_CHECK_EQUAL(index, 17);
  MOE_CHECK(moe::device_index("cuda:2147483647", &index).ok());
  MOE_CHECK_EQUAL(index, 2147483647);
  MOE_CHECK_EQUAL(moe::device_kind("cuda:17"), "cuda");
  MOE_CHECK_EQUAL(moe::device_kind("simt"), "simt");
}

MOE_TEST(a_device_number_that_no_device_can_have_is_an_error) {
  for (const char* name : {"cuda:2147483648", "cuda:99999999999", "cuda:999999999999999999999999", "cuda:-1",
                           "cuda:", "cuda:1x", "cuda:1:2"}) {
    int index = -1;
    MOE_CHECK(moe::device_index(name, &index).code == Code::device_unavailable);
  }
}
