#include "gpu/runtime/data_errors.h"

#include <cstddef>

namespace moe::MOE_GPU_NAMESPACE {
namespace {

// So many launches may wait for one collect(); more make next() wait.
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
    text += "-1, as there is none";
  }
  return text + ", got " + std::to_string(value);
}

}  // namespace

struct DataErrors::Table {
  unsigned long long non_finite_rows;
  unsigned long long unused;
  gpu::IdError errors[kCapacity];
};

DataErrors::~DataErrors() {
  if (table_ != nullptr) runtime_.release(table_);
}

Status DataErrors::open() {
  void* data = nullptr;
  MOE_TRY(runtime_.allocate(sizeof(Table), &data));
  table_ = static_cast<Table*>(data);
  MOE_TRY(runtime_.fill(table_, 0, offsetof(Table, errors)));
  return runtime_.fill(table_->errors, 0xff, sizeof table_->errors);
}

Status DataErrors::next(const IdRange& range, gpu::IdError** error) {
  if (ranges_.size() == kCapacity) MOE_TRY(drain());
  *error = &table_->errors[ranges_.size()];
  ranges_.push_back(range);
  return {};
}

unsigned long long* DataErrors::non_finite_rows() const { return &table_->non_finite_rows; }

Status DataErrors::collect(Warnings& warnings) {
  MOE_TRY(drain());
  warnings.non_finite_logit_rows = static_cast<int64_t>(non_finite_rows_);
  return std::exchange(failure_, Status{});
}

// Reads the part of the table in use and empties it.
Status DataErrors::drain() {
  Table table;
  const size_t used = ranges_.size();
  MOE_TRY(runtime_.read(&table, table_, offsetof(Table, errors) + used * sizeof(gpu::IdError)));
  non_finite_rows_ = table.non_finite_rows;
  bool found = false;
  for (size_t i = 0; i < used; ++i) {
    if (table.errors[i].first == gpu::kNoIdError) continue;
    found = true;
    if (!failure_.ok()) continue;
    failure_.code = Code::id_out_of_range;
    failure_.message = message(ranges_[i], table.errors[i]);
  }
  ranges_.clear();
  return found ? runtime_.fill(table_->errors, 0xff, used * sizeof(gpu::IdError)) : Status{};
}

}  // namespace moe::MOE_GPU_NAMESPACE
