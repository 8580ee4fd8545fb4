// Every broken kernel is caught under some seed or mode: by a report, or by a result that is wrong or varies.
#include <cstdio>
#include <string>

#include "broken_kernels.h"
#include "run.h"
#include "simt/sanitizer.h"

namespace moe::simt::test {

namespace {

const BrokenKernel& broken(const std::string& name) {
  for (const BrokenKernel& kernel : broken_kernels()) {
    if (kernel.name == name) return kernel;
  }
  fprintf(stderr, "no broken kernel %s\n", name.c_str());
  abort();
}

Outcome outcome(const char* name, const Options& options) { return broken(name).run(name, options); }

// Reported under every seed and in all modes, with the kernel, the block, these words, and how to reproduce it.
void check_reported(const char* name, std::initializer_list<const char*> words) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const AsyncMode mode : kAsyncModes) {
      const Options options = with(seed, mode);
      const Status status = outcome(name, options).status;
      MOE_CHECK(status.code == Code::internal);
      MOE_CHECK(says(status, words));
      MOE_CHECK(says(status, {name, "block (0, 0, 0)", describe(options).c_str()}));
    }
  }
}

// How many seeds give the right result. None may report anything.
uint64_t correct_seeds(const char* name, AsyncMode mode) {
  uint64_t correct = 0;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Outcome result = outcome(name, with(seed, mode));
    MOE_CHECK_EQUAL(result.status.message, "");
    correct += result.correct;
  }
  return correct;
}

MOE_TEST(missing_syncthreads_gives_a_wrong_result) {
  MOE_CHECK(correct_seeds("missing_syncthreads", AsyncMode::late) < kSeeds / 2);
  MOE_CHECK(correct_seeds("missing_second_syncthreads", AsyncMode::late) < kSeeds);
}
MOE_TEST(missing_syncwarp_gives_a_wrong_result) { MOE_CHECK(correct_seeds("missing_syncwarp", AsyncMode::late) == 0); }
MOE_TEST(missing_cp_async_wait_shows_in_the_late_mode) {
  MOE_CHECK_EQUAL(correct_seeds("missing_cp_async_wait", AsyncMode::late), 0u);
  MOE_CHECK_EQUAL(correct_seeds("missing_cp_async_wait", AsyncMode::early), kSeeds);
  MOE_CHECK_EQUAL(correct_seeds("wait_for_wrong_group", AsyncMode::late), 0u);
}
MOE_TEST(copy_over_what_is_read_shows_in_the_early_mode) {
  MOE_CHECK_EQUAL(correct_seeds("copy_over_what_is_read", AsyncMode::late), kSeeds);
  MOE_CHECK_EQUAL(correct_seeds("copy_over_what_is_read", AsyncMode::early), 0u);
}
MOE_TEST(both_show_in_the_mixed_mode) {
  for (const char* name : {"missing_cp_async_wait", "wait_for_wrong_group", "copy_over_what_is_read"}) {
    MOE_CHECK_EQUAL(correct_seeds(name, AsyncMode::mixed), 0u);
  }
}
MOE_TEST(missing_barrier_after_wait_gives_a_wrong_result) {
  for (const AsyncMode mode : kAsyncModes) {
    MOE_CHECK(correct_seeds("missing_barrier_after_wait", mode) == 0);
  }
}
MOE_TEST(source_changes_is_reported) { check_reported("source_changes", {"cp_async_4_zfill", "the source changed"}); }

MOE_TEST(read_of_unwritten_shared_gives_nan) {
  MOE_CHECK_EQUAL(correct_seeds("read_of_unwritten_shared", AsyncMode::late), 0u);
}
MOE_TEST(swapped_fragment_rows_gives_a_wrong_product) {
  MOE_CHECK_EQUAL(correct_seeds("swapped_fragment_rows", AsyncMode::late), 0u);
}

// The same kernels without their mistakes.
MOE_TEST(right_kernels_pass) {
  for (const char* name : {"right_wait_and_barrier", "right_fragment_rows", "right_static_beside_dynamic",
                           "right_asked_for_more", "right_wait_for_a_thread"}) {
    for (const AsyncMode mode : kAsyncModes) MOE_CHECK_EQUAL(correct_seeds(name, mode), kSeeds);
  }
}

MOE_TEST(vector_store_past_dynamic_is_reported) {
  check_reported("vector_store_past_dynamic", {"thread (31, 0, 0)", "st_shared_32", "past the end"});
}
MOE_TEST(copy_past_static_is_reported) { check_reported("copy_past_static", {"cp_async_16", "past the end"}); }
MOE_TEST(too_much_static_shared_is_reported) {
  check_reported("too_much_static_shared", {"204800 bytes", "232448 bytes"});
}
MOE_TEST(static_shared_beside_dynamic_is_reported) {
  check_reported("static_beside_dynamic", {"32 bytes", "49152 dynamic", "the 49152 bytes", "unless the launch asks"});
}

MOE_TEST(misaligned_global_load_is_reported) {
  check_reported("misaligned_global_load",
                 {"ld_global_128 (test/native/simt/broken_kernels.cc:", "multiple of 16 bytes", "4 past"});
}
MOE_TEST(misaligned_ldmatrix_row_is_reported) {
  check_reported("misaligned_ldmatrix_row", {"ldmatrix_x4", "multiple of 16 bytes", "8 past"});
}
MOE_TEST(misaligned_atomic_is_reported) {
  check_reported("misaligned_atomic", {"atomicAdd", "multiple of 4 bytes", "2 past"});
}
MOE_TEST(shared_load_of_global_is_reported) {
  check_reported("shared_load_of_global", {"ld_shared_32", "not in shared memory"});
}

// AddressSanitizer keeps such variables elsewhere.
#if !defined(MOE_SIMT_ASAN)
MOE_TEST(access_to_a_variable_as_to_global_memory_is_reported) {
  check_reported("copy_of_a_variable", {"cp_async_16", "a variable or of a kernel's parameter"});
  check_reported("load_of_a_parameter", {"ld_global_32", "a variable or of a kernel's parameter"});
  check_reported("atomic_on_a_variable", {"atomicAdd", "a variable or of a kernel's parameter"});
}
#endif

MOE_TEST(divergent_syncthreads_is_reported) { check_reported("divergent_syncthreads", {"__syncthreads", "exit"}); }
MOE_TEST(two_barriers_in_a_warp_is_reported) {
  check_reported("two_barriers_in_a_warp", {"__syncthreads", "different barrier calls"});
}
MOE_TEST(wrong_barrier_count_is_reported_as_deadlock) {
  check_reported("wrong_barrier_count",
                 {"deadlock: threads 0-63 waiting in named_barrier_sync", "threads 64-127 waiting in __syncthreads"});
}
MOE_TEST(wait_for_another_block_is_reported) {
  check_reported("wait_for_another_block", {"atomicAdd (", "only poll", "another block"});
}
MOE_TEST(barrier_counts_differ_is_reported) {
  check_reported("barrier_counts_differ", {"named_barrier_sync", "wait at the same barrier for"});
}

MOE_TEST(lane_missing_from_shuffle_is_reported) {
  check_reported("lane_missing_from_shuffle", {"__shfl_sync", "exit", "mask 0xffffffff"});
}
MOE_TEST(lane_goes_elsewhere_is_reported_as_deadlock) {
  check_reported("lane_goes_elsewhere", {"deadlock: threads 0-6, 8-31 waiting in __ballot_sync", "with mask 0xffffffff",
                                         "thread 7 waiting in __syncthreads"});
}
MOE_TEST(lane_not_in_its_mask_is_reported) { check_reported("lane_not_in_its_mask", {"__any_sync", "0x0000ffff"}); }
MOE_TEST(masks_differ_is_reported) {
  check_reported("masks_differ", {"__shfl_xor_sync", "mask 0xffffffff", "mask 0xffff0001"});
}
MOE_TEST(different_collectives_is_reported) {
  check_reported("different_collectives", {"__any_sync", "__all_sync", "in another call"});
}
MOE_TEST(shuffle_from_outside_the_mask_is_reported) {
  check_reported("shuffle_from_outside_the_mask", {"__shfl_sync", "reads lane 20", "not in mask 0x0000ffff"});
}
MOE_TEST(matrix_product_in_half_a_warp_is_reported) {
  check_reported("matrix_product_in_half_a_warp", {"mma_m16n8k16_bf16", "exit"});
}

// AddressSanitizer stops these two before the runtime sees them.
#if !defined(MOE_SIMT_ASAN)
MOE_TEST(store_past_dynamic_is_reported) { check_reported("store_past_dynamic", {"past the end of an allocation"}); }
MOE_TEST(store_past_static_is_reported) { check_reported("store_past_static", {"past the end of an allocation"}); }
#endif

}  // namespace

}  // namespace moe::simt::test

// With a name: runs that kernel once, so that a sanitizer can see it. Without: runs the tests.
int main(int argc, char** argv) {
  using namespace moe::simt::test;
  if (argc == 3 && std::string(argv[1]) == "--kernel") {
    const Outcome result = outcome(argv[2], with(1));
    printf("%s: %s\n", argv[2],
           result.status.ok() ? (result.correct ? "correct" : "wrong") : result.status.message.c_str());
    return 0;
  }
  return moe::test::run_tests(argc, argv);
}
