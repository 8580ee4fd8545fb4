// Errors that kernels find in the data and the host learns of at the next wait: indices out of range, and rows of
// logits without a finite entry.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/runtime/id_error.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// The valid range of an index, for error messages.
struct IdRange {
  const char* parameter;  // operator and argument, "sort: ids"
  const char* what;  // what it is an index of, "an expert"; null: an offset, from the reported lowest value to limit
  int64_t limit;     // indices are less than this; offsets at most this
  int64_t columns;   // row length of a matrix of indices; 0: a vector
};

class DataErrors {
 public:
  explicit DataErrors(Runtime& runtime) : runtime_(runtime) {}
  ~DataErrors();
  DataErrors(const DataErrors&) = delete;
  DataErrors& operator=(const DataErrors&) = delete;

  Status open();
  // A place of its own for the next launch that checks indices, so that the first failure in launch order is the one
  // that is reported. `range` is kept until the next collect(). Never waits; if there is no memory left, collect()
  // reports it.
  gpu::IdError* next(const IdRange& range);
  // A counter in device memory.
  unsigned long long* non_finite_rows() const;
  // Waits, counts the rows, and returns the first out-of-range index since the last call. Makes another copy in the
  // same wait, which is complete unless what is returned is a failure of the device.
  Status collect(Warnings& warnings, const Download& beside = {});

 private:
  struct Table;

  Status add_table();
  // The places of a table that are in use.
  size_t used(size_t index) const;
  // Sets those of the first table back, if any launch wrote to them.
  Status clear(const Table& read);

  Runtime& runtime_;
  // In device memory: one, and more if many launches come before a collect().
  std::vector<Table*> tables_;
  // The places in use, in launch order.
  struct Place {
    IdRange range;
    uint64_t call;  // the stream's call whose launch may write there
  };
  std::vector<Place> places_;
  Status failure_;  // why a place could not be made
};

}  // namespace moe::MOE_GPU_NAMESPACE
