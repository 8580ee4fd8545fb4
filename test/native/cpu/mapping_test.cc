#include "cpu/runtime/mapping.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "check.h"

namespace {

using moe::Code;
using moe::MappedFile;
using moe::cpu::Mapping;

const size_t kPage = static_cast<size_t>(sysconf(_SC_PAGESIZE));

// A mapped file of some pages full of ones, without a name.
struct MappedPages {
  explicit MappedPages(size_t pages) {
    char path[] = "/tmp/moe-mapping-XXXXXX";
    descriptor = mkstemp(path);
    unlink(path);
    const std::vector<char> ones(pages * kPage, 1);
    MOE_CHECK(write(descriptor, ones.data(), ones.size()) == static_cast<ssize_t>(ones.size()));
    MOE_CHECK(Mapping::open(descriptor, "file", ones.size(), &file).ok());
  }
  ~MappedPages() { close(descriptor); }

  void keep_pages(size_t pages) { MOE_CHECK(ftruncate(descriptor, static_cast<off_t>(pages * kPage)) == 0); }
  // The bytes' sum, as a thread of its own reads it.
  size_t sum(size_t first_page, size_t pages) const {
    size_t sum = 0;
    std::thread([&] {
      for (size_t i = first_page * kPage; i < (first_page + pages) * kPage; ++i) sum += file->data()[i];
    }).join();
    return sum;
  }

  int descriptor;
  std::shared_ptr<MappedFile> file;
};

bool is_default_handler() {
  struct sigaction action = {};
  sigaction(SIGBUS, nullptr, &action);
  return (action.sa_flags & SA_SIGINFO) == 0 && action.sa_handler == SIG_DFL;
}

int faults = 0, handed_on = 0;
char* fault_page = nullptr;
struct sigaction behind = {};

void make_writable(int, siginfo_t*, void*) {
  ++faults;
  mmap(fault_page, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

void hand_on(int signal, siginfo_t* info, void* context) {
  // Deeper than any chain of handlers: the test fails, instead of running out of stack.
  if (++handed_on > 100) return make_writable(signal, info, context);
  behind.sa_sigaction(signal, info, context);
}

// Makes this handler the first one, and returns that before.
struct sigaction handle_by(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction before = {}, own = {};
  own.sa_sigaction = handler;
  own.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &own, &before);
  return before;
}

// Reads from a page that a mapping without a guard has lost.
void fault_outside_guards() {
  MappedPages bare(2);
  void* data = mmap(nullptr, 2 * kPage, PROT_READ, MAP_PRIVATE, bare.descriptor, 0);
  fault_page = static_cast<char*>(data) + kPage;
  bare.keep_pages(1);
  faults = handed_on = 0;
  MOE_CHECK(*static_cast<volatile char*>(fault_page) == 0);
  MOE_CHECK_EQUAL(faults, 1);
  munmap(data, 2 * kPage);
}

}  // namespace

MOE_TEST(pages_that_a_mapped_file_loses_are_zeros_and_an_error) {
  MappedPages whole(3), cut(5);
  MOE_CHECK(cut.sum(0, 1) == kPage);
  cut.keep_pages(2);
  MOE_CHECK(cut.file->check_read().ok());
  MOE_CHECK(cut.sum(0, 5) == 2 * kPage);
  MOE_CHECK(cut.file->check_read().code == Code::bad_checkpoint);
  bool written = false;
  MOE_CHECK(cut.file->check(&written).code == Code::bad_checkpoint);
  // Once torn, it stays so, whatever becomes of the file.
  cut.keep_pages(5);
  MOE_CHECK(cut.file->check(&written).code == Code::bad_checkpoint);
  MOE_CHECK(whole.file->check(&written).ok());
  MOE_CHECK(whole.sum(0, 3) == 3 * kPage);
}

MOE_TEST(a_guard_is_used_again_untorn) {
  for (int i = 0; i < 3; ++i) {
    MappedPages pages(2);
    MOE_CHECK(pages.file->check_read().ok());
    pages.keep_pages(1);
    MOE_CHECK(pages.sum(0, 2) == kPage);
    MOE_CHECK(!pages.file->check_read().ok());
  }
}

MOE_TEST(faults_outside_guarded_mappings_go_to_the_handler_before) {
  const struct sigaction before = handle_by(make_writable);
  {
    MappedPages guarded(1);
    fault_outside_guards();
    MOE_CHECK(guarded.file->check_read().ok());
  }
  sigaction(SIGBUS, &before, nullptr);
}

MOE_TEST(a_handler_that_was_installed_between_two_guards_hands_faults_on_only_once) {
  const struct sigaction before = handle_by(make_writable);
  {
    const MappedPages first(1);
    behind = handle_by(hand_on);
  }
  {
    MappedPages second(2);
    fault_outside_guards();
    MOE_CHECK_EQUAL(handed_on, 1);
    // Its own pages are guarded, through the other.
    second.keep_pages(1);
    MOE_CHECK(second.sum(0, 2) == kPage);
    MOE_CHECK(!second.file->check_read().ok());
    sigaction(SIGBUS, &behind, nullptr);
  }
  // With the other gone, the handler left with the last mapping.
  struct sigaction last = {};
  sigaction(SIGBUS, &before, &last);
  MOE_CHECK(last.sa_sigaction == make_writable);
}

MOE_TEST(a_handler_that_another_took_away_is_installed_again) {
  const struct sigaction before = handle_by(make_writable);
  {
    const MappedPages first(1);
    (void)handle_by(hand_on);
  }
  struct sigaction by_default = {};
  by_default.sa_handler = SIG_DFL;
  sigaction(SIGBUS, &by_default, nullptr);
  {
    MappedPages second(2);
    second.keep_pages(1);
    MOE_CHECK(second.sum(0, 2) == kPage);
  }
  MOE_CHECK(is_default_handler());
  sigaction(SIGBUS, &before, nullptr);
}

MOE_TEST(the_handler_leaves_with_the_last_mapping) {
  const bool before = is_default_handler();
  {
    MappedPages pages(1);
    MOE_CHECK(!is_default_handler());
  }
  MOE_CHECK(is_default_handler() == before);
}
