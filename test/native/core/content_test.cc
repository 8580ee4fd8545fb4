#include "core/content.h"

#include <memory>
#include <string>

#include "check.h"
#include "wait.h"

namespace {

using moe::Code;
using moe::Content;
using moe::kWhole;
using moe::Part;
using moe::Status;
using moe::Stream;
using moe::Uses;
using moe::test::wait;

Uses writes(const std::shared_ptr<Content>& content, Part part = kWhole) {
  Uses uses;
  uses.writes(content, part);
  return uses;
}

Uses reads(const std::shared_ptr<Content>& content, Part part = kWhole) {
  Uses uses;
  uses.reads(content, part);
  return uses;
}

Status succeed() { return {}; }
Status fail() { return {Code::out_of_memory, "no memory for it"}; }

// What a wait for work that does nothing says.
std::string read(Stream& stream, const std::shared_ptr<Content>& content, Part part = kWhole) {
  return stream.run(succeed, reads(content, part)).message;
}

}  // namespace

MOE_TEST(what_failed_work_writes_says_so_until_it_is_written) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  const uint64_t call = stream.enqueue(fail, writes(content));
  MOE_CHECK_EQUAL(read(stream, content), "no memory for it");
  // The wait had the failure, and the content still has it.
  MOE_CHECK(wait(stream).ok());
  const Status again = stream.run(succeed, reads(content));
  MOE_CHECK(again.code == Code::out_of_memory);
  MOE_CHECK_EQUAL(again.message, "no memory for it");
  MOE_CHECK_EQUAL(again.call, call);
  stream.enqueue(succeed, writes(content));
  MOE_CHECK_EQUAL(read(stream, content), "");
}

MOE_TEST(work_on_what_failed_is_not_run_and_fails_alike) {
  Stream stream;
  const auto input = std::make_shared<Content>(), output = std::make_shared<Content>();
  stream.enqueue(fail, writes(input));
  MOE_CHECK(!wait(stream).ok());
  bool ran = false;
  Uses uses = reads(input);
  uses.writes(output, kWhole);
  stream.enqueue(
      [&ran] {
        ran = true;
        return Status();
      },
      std::move(uses));
  MOE_CHECK_EQUAL(wait(stream).message, "no memory for it");
  MOE_CHECK(!ran);
  MOE_CHECK_EQUAL(read(stream, output), "no memory for it");
}

MOE_TEST(what_throws_fails) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  stream.enqueue([]() -> Status { throw std::bad_alloc(); }, writes(content));
  MOE_CHECK(wait(stream).code == Code::out_of_memory);
  MOE_CHECK(stream.run(succeed, reads(content)).code == Code::out_of_memory);
}

MOE_TEST(an_update_of_what_failed_fails) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  stream.enqueue(fail, writes(content));
  Uses update;
  update.updates(content, kWhole);
  stream.enqueue(succeed, std::move(update));
  MOE_CHECK(!wait(stream).ok());
  MOE_CHECK_EQUAL(read(stream, content), "no memory for it");
}

MOE_TEST(parts_fail_and_are_written_apart) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  stream.enqueue(fail, writes(content, {10, 20}));
  MOE_CHECK(!wait(stream).ok());
  MOE_CHECK_EQUAL(read(stream, content, {0, 10}), "");
  MOE_CHECK_EQUAL(read(stream, content, {19, 30}), "no memory for it");
  MOE_CHECK_EQUAL(read(stream, content, {20, 30}), "");
  // Nothing is read of an empty part.
  MOE_CHECK_EQUAL(read(stream, content, {15, 15}), "");
  stream.enqueue(succeed, writes(content, {0, 15}));
  MOE_CHECK_EQUAL(read(stream, content, {10, 15}), "");
  MOE_CHECK_EQUAL(read(stream, content, {15, 16}), "no memory for it");
  stream.enqueue(succeed, writes(content, {15, 25}));
  MOE_CHECK_EQUAL(read(stream, content), "");
}

MOE_TEST(parts_that_fail_one_after_the_other_are_all_failed) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  for (const Part part : {Part{30, 40}, Part{10, 20}, Part{50, 60}}) {
    stream.enqueue(fail, writes(content, part));
    MOE_CHECK(!wait(stream).ok());
  }
  for (const size_t begin : {10, 30, 50})
    MOE_CHECK_EQUAL(read(stream, content, {begin, begin + 1}), "no memory for it");
  // Those before what is written at the end remain.
  stream.enqueue(succeed, writes(content, {20, 70}));
  MOE_CHECK_EQUAL(read(stream, content, {20, 70}), "");
  MOE_CHECK_EQUAL(read(stream, content, {10, 20}), "no memory for it");
}

MOE_TEST(an_index_out_of_range_leaves_its_defined_outputs) {
  Stream stream;
  const auto content = std::make_shared<Content>();
  stream.enqueue([] { return Status(Code::id_out_of_range, "ids[0]"); }, writes(content));
  MOE_CHECK_EQUAL(wait(stream).message, "ids[0]");
  MOE_CHECK_EQUAL(read(stream, content), "");
}
