// What kernels find in the data and the host learns at the next wait: indices out of range, rows of logits without a
// finite entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "gpu/runtime/id_error.h"
#include "gpu/runtime/runtime.h"

namespace moe::MOE_GPU_NAMESPACE {

// What an index may be, for the message about one that is not.
struct IdRange {
  const char* parameter;  // operator and argument, "sort: ids"
  const char* what;  // what it is an index of, "an expert"; null: an offset, from the reported least value to limit
  int64_t limit;     // indices are less; offsets are at most
  int64_t columns;   // of a matrix of indices; 0: a vector
};

class DataErrors {
 public:
  explicit DataErrors(Runtime& runtime) : runtime_(runtime) {}
  ~DataErrors();
  DataErrors(const DataErrors&) = delete;
  DataErrors& operator=(const DataErrors&) = delete;

  Status open();
  // A place of its own for the next launch that checks indices, so that the first failure in order of the launches is
  // the one reported. `range` is kept until the next collect(). Waits for nothing; where memory is out, collect() says
  // so.
  gpu::IdError* next(const IdRange& range);
  // A counter on the device.
  unsigned long long* non_finite_rows() const;
  // Waits, counts the rows and returns the first index out of range since the last call.
  Status collect(Warnings& warnings);

 private:
  struct Table;

  Status add_table();
  // Reads the first `used` places of a table, and empties it where a launch has written to them.
  Status read_table(size_t index, size_t used, Table* table);

  Runtime& runtime_;
  // On the device: one, and more where many launches come before a collect().
  std::vector<Table*> tables_;
  // The places in use, in order.
  struct Place {
    IdRange range;
    uint64_t call;  // of the stream, that launched what may write there
  };
  std::vector<Place> places_;
  Status failure_;  // of making room for one
};

}  // namespace moe::MOE_GPU_NAMESPACE
