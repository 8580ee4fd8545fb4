#include "gpu/runtime/data_errors.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

#include "core/stream.h"

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// Launches that one table has places for.
constexpr size_t kCapacity = 1023;

std::string message(const IdRange& range, const gpu::IdError& error) {
  const auto position = static_cast<int64_t>(error.first >> 32);
  const auto value = static_cast<int32_t>(error.first & 0xffffffffu);
  std::string text = std::string(range.parameter) + "[";
  if (range.columns > 0) text += std::to_string(position / range.columns) + ", ";
  text += std::to_string(range.columns > 0 ? position % range.columns : position) + "]: expected ";
  if (range.what == nullptr) {
    text += "from " + std::to_string(error.low) + " to " + std::to_string(range.limit);
  } else if (range.limit > 0) {
    text += std::string("-1 or ") + range.what + " from 0 to " + std::to_string(range.limit - 1);
  } else {
    text += "-1, the only valid value";
  }
  return text + ", got " + std::to_string(value);
}

}  // namespace

struct DataErrors::Table {
  unsigned long long non_finite_rows;  // only the first table's counts
  unsigned long long unused;
  gpu::IdError errors[kCapacity];
  gpu::IdError unread;  // shared by launches that got no place
};

DataErrors::~DataErrors() {
  for (Table* table : tables_) runtime_.release(table);
}

Status DataErrors::open() { return add_table(); }

Status DataErrors::add_table() {
  void* data = nullptr;
  tables_.reserve(tables_.size() + 1);
  MOE_TRY(runtime_.allocate(sizeof(Table), &data));
  tables_.push_back(static_cast<Table*>(data));
  MOE_TRY(runtime_.fill(data, 0, offsetof(Table, errors)));
  return runtime_.fill(static_cast<char*>(data) + offsetof(Table, errors), 0xff,
                       sizeof(Table) - offsetof(Table, errors));
}

gpu::IdError* DataErrors::next(const IdRange& range) {
  const size_t place = places_.size();
  if (place == tables_.size() * kCapacity) {
    if (Status added = add_table(); !added.ok()) {
      std::swap(failure_, added);
      return &tables_[0]->unread;
    }
  }
  places_.push_back({range, current_call()});
  return &tables_[place / kCapacity]->errors[place % kCapacity];
}

unsigned long long* DataErrors::non_finite_rows() const { return &tables_[0]->non_finite_rows; }

Status DataErrors::collect(Warnings& warnings, const Download& beside) {
  Status failure = std::exchange(failure_, {});
  const auto read = std::make_unique_for_overwrite<Table[]>(tables_.size());
  std::vector<Download> downloads;
  if (beside.bytes > 0) downloads.push_back(beside);
  for (size_t index = 0; index < tables_.size(); ++index) {
    downloads.push_back({&read[index], tables_[index], offsetof(Table, errors) + used(index) * sizeof(gpu::IdError)});
  }
  MOE_TRY(runtime_.read(downloads));
  warnings.non_finite_logit_rows = static_cast<int64_t>(read[0].non_finite_rows);
  for (size_t place = 0; place < places_.size() && failure.ok(); ++place) {
    const gpu::IdError& error = read[place / kCapacity].errors[place % kCapacity];
    if (error.first == gpu::kNoIdError) continue;
    failure.code = Code::id_out_of_range;
    failure.message = message(places_[place].range, error);
    failure.call = places_[place].call;
  }
  for (size_t index = 1; index < tables_.size(); ++index) runtime_.release(tables_[index]);
  tables_.resize(1);
  const Status cleared = clear(read[0]);
  places_.clear();
  return cleared.ok() ? failure : cleared;
}

size_t DataErrors::used(size_t index) const { return std::min(kCapacity, places_.size() - index * kCapacity); }

Status DataErrors::clear(const Table& read) {
  const size_t places = used(0);
  const bool written = std::any_of(read.errors, read.errors + places,
                                   [](const gpu::IdError& error) { return error.first != gpu::kNoIdError; });
  return written ? runtime_.fill(tables_[0]->errors, 0xff, places * sizeof(gpu::IdError)) : Status{};
}

}  // namespace moe::MOE_GPU_NAMESPACE
