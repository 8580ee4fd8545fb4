#include "cpu/runtime/mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "core/pages.h"

namespace moe::cpu {

namespace {

int64_t modified(const struct stat& file) {
#if defined(__APPLE__)
  const timespec& time = file.st_mtimespec;
#else
  const timespec& time = file.st_mtim;
#endif
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Linux reads ahead no more than this at a time where a disk does not say otherwise.
constexpr size_t kReadAhead = 128 * 1024;

// Unlike strerror(), this may be called from several threads.
std::string text_of(int error) { return std::generic_category().message(error); }

Status cannot_map(size_t bytes, int error) {
  return {Code::out_of_memory, "cannot map " + std::to_string(bytes) + " bytes of a file: " + text_of(error)};
}

Status cannot_check(const std::string& path, int error) {
  return {Code::bad_checkpoint, path + ": cannot be checked: " + text_of(error)};
}

Status too_short(const std::string& path, size_t expected, int64_t bytes, const char* when) {
  return {Code::bad_checkpoint, path + ": expected " + std::to_string(expected) + " bytes of packed weights, got " +
                                    std::to_string(bytes) + ": the file was truncated " + when +
                                    "; load the layer again"};
}

}  // namespace

Status Mapping::open(int descriptor, std::string path, size_t bytes, std::shared_ptr<MappedFile>* mapping) {
  struct stat file;
  if (bytes == 0) return {Code::invalid_argument, "mapping: expected bytes to map, got 0"};
  if (fstat(descriptor, &file) != 0) return cannot_check(path, errno);
  if (static_cast<uint64_t>(file.st_size) < bytes) {
    return too_short(path, bytes, file.st_size, "after it was opened");
  }
  std::shared_ptr<Mapping> made(new Mapping(std::move(path), bytes));
  made->modified_ = modified(file);
  made->descriptor_ = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (made->descriptor_ < 0) return cannot_map(bytes, errno);
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, descriptor, 0);
  if (data == MAP_FAILED) return cannot_map(bytes, errno);
  made->data_ = data;
  made->guard_.emplace(data, bytes);
  *mapping = std::move(made);
  return {};
}

Mapping::~Mapping() {
  guard_.reset();
  if (data_ != nullptr) munmap(data_, bytes_);
  if (descriptor_ >= 0) close(descriptor_);
}

Status Mapping::check(bool* written) {
  MOE_TRY(check_read());
  struct stat file;
  if (fstat(descriptor_, &file) != 0) return cannot_check(path_, errno);
  if (static_cast<uint64_t>(file.st_size) < bytes_) {
    return too_short(path_, bytes_, file.st_size, "while a layer used it");
  }
  *written = modified(file) != modified_;
  modified_ = modified(file);
  return {};
}

Status Mapping::check_read() const {
  if (!guard_->torn()) return {};
  return {Code::bad_checkpoint,
          path_ +
              ": packed weights could not be read: the file was truncated, or the disk failed, while a layer used "
              "it; load the layer again"};
}

void Mapping::ask(const void* data, size_t bytes) const {
  const Pages pages = pages_around(data, bytes);
  for (size_t offset = 0; offset < pages.length; offset += kReadAhead) {
    madvise(pages.begin + offset, std::min(kReadAhead, pages.length - offset), MADV_WILLNEED);
  }
}

// Pages on the edges may hold bytes of others, which are read again where they are needed.
void Mapping::drop(const void* data, size_t bytes) const {
  const Pages pages = pages_around(data, bytes);
  madvise(pages.begin, pages.length, MADV_DONTNEED);
}

Status Mapping::damaged(const std::string& what) const {
  struct stat mapped, named;
  const bool exists = lstat(path_.c_str(), &named) == 0;
  const bool ours =
      exists && fstat(descriptor_, &mapped) == 0 && mapped.st_dev == named.st_dev && mapped.st_ino == named.st_ino;
  const bool removed = !exists || (ours && unlink(path_.c_str()) == 0);
  const char* next = removed ? "the file has been removed: load the layer again to write a new one"
                     : ours  ? "remove the file, and load the layer again to write a new one"
                             : "another file has taken its place: load the layer again";
  return {Code::bad_checkpoint, path_ + ": the packed weights " + what + " do not match their checksum; " + next};
}

}  // namespace moe::cpu
