#include <algorithm>

#include "core/formats/quantize.h"
#include "cpu/formats/nearest_codes.h"
#include "cpu/gemm/weight_reader.h"
#include "cpu/operators.h"

namespace moe::cpu {

namespace {

class Quantizer {
 public:
  Quantizer(Context& context, const Quantize& p)
      : context_(context),
        p_(p),
        format_(*p.format),
        weight_(p.weight()),
        codes_(format_),
        groups_(group_grid(format_.scales, p.values.rows, p.values.columns)) {}

  Status run() {
    const int64_t line = std::max(groups_.group_rows * groups_.group_columns, p_.values.columns);
    MOE_TRY(reserve_workspace(context_, [&](Arena& arena) {
      intervals_ = arena.take<Interval>(groups_.count());
      lines_ = arena.take<float>(line * context_.team.threads);
    }));
    line_ = line;
    for_each_group(
        [&](int64_t group, const float* elements, int64_t count) { intervals_[group] = interval_of(elements, count); });
    if (!format_.super_scales.absent()) write_super_scales();
    if (p_.search) {
      for_each_group([&](int64_t group, const float* elements, int64_t count) { write_scale(group, elements, count); });
    } else {
      context_.team.for_range(groups_.count(), 256, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) write_scale(group, nullptr, 0);
      });
    }
    write_codes();
    return {};
  }

 private:
  // Reads elements of a row. What is not finite becomes 0.
  void read(int64_t row, int64_t first, int64_t count, float* elements) const {
    read_row(context_.kernels, p_.values, row, first, count, elements);
    for (int64_t i = 0; i < count; ++i) elements[i] = finite_element(float_bits(elements[i]));
  }

  // Several at a time, which compilers turn into vectors. None is NaN or -0, so their order does not matter.
  Interval interval_of(const float* elements, int64_t count) const {
    constexpr int kLanes = 8;
    Interval lanes[kLanes];
    for (Interval& lane : lanes) lane = empty_interval(format_);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (int lane = 0; lane < kLanes; ++lane) {
        lanes[lane] = united(lanes[lane], {elements[i + lane], elements[i + lane]});
      }
    }
    for (; i < count; ++i) lanes[0] = united(lanes[0], {elements[i], elements[i]});
    for (int lane = 1; lane < kLanes; ++lane) lanes[0] = united(lanes[0], lanes[lane]);
    return lanes[0];
  }

  // use(group, its elements row by row, their number) for every group, on all threads.
  template <class Use>
  void for_each_group(Use&& use) const {
    const int64_t grain = std::max<int64_t>(1, 4096 / (groups_.group_rows * groups_.group_columns));
    context_.team.for_pieces(groups_.count(), grain, [&](int thread, int64_t begin, int64_t end) {
      float* elements = lines_ + thread * line_;
      for (int64_t group = begin; group < end; ++group) {
        const int64_t first_row = group / groups_.columns * groups_.group_rows;
        const int64_t first_column = group % groups_.columns * groups_.group_columns;
        const int64_t rows = std::min(groups_.group_rows, p_.values.rows - first_row);
        const int64_t columns = std::min(groups_.group_columns, p_.values.columns - first_column);
        for (int64_t row = 0; row < rows; ++row) {
          read(first_row + row, first_column, columns, elements + row * columns);
        }
        use(group, elements, rows * columns);
      }
    });
  }

  void write_super_scales() const {
    const SuperGroups super(format_, p_.values.rows, p_.values.columns);
    const int bytes = scale_bytes(format_.super_scales.type);
    context_.team.for_range(super.units(), 64, [&](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) {
        GroupScale largest = {};
        const int64_t count = super.rows_of(unit) * super.columns_of(unit);
        for (int64_t i = 0; i < count; ++i) {
          const GroupScale scale = reaching_scale(format_, codes_.range(), intervals_[super.index(unit, i)]);
          largest.scale = std::max(largest.scale, scale.scale);
          largest.minimum = std::max(largest.minimum, scale.minimum);
        }
        const int64_t first = super.whole ? 0 : unit, last = super.whole ? super.super.count() : unit + 1;
        for (int64_t i = first; i < last; ++i) {
          store_scale(p_.super_scales.data, bytes, i, encode_super_scale(format_, largest.scale));
          if (p_.super_zeros.absent()) continue;
          store_scale(p_.super_zeros.data, bytes, i, encode_super_scale(format_, largest.minimum));
        }
      }
    });
  }

  // A search looks at the group's elements.
  void write_scale(int64_t group, const float* elements, int64_t count) const {
    const int64_t row = group / groups_.columns * groups_.group_rows;
    const int64_t column = group % groups_.columns * groups_.group_columns;
    const float super_scale = level_value(format_.super_scales, weight_.super_scales, row, column, 1.0f);
    const float super_zero = level_value(format_.super_scales, weight_.super_zeros, row, column, 1.0f);
    const auto candidate = [&](int index) {
      const Interval interval = narrowed(format_, intervals_[group], candidate_width(index, p_.search));
      return encode_group(format_, codes_.range(), interval, super_scale, super_zero);
    };
    const EncodedGroup best = p_.search ? best_of(candidate, elements, count) : candidate(0);
    store_scale(p_.scales.data, scale_bytes(format_.scales.type), group, best.scale_bits);
    if (!p_.zeros.absent()) {
      store_scale(p_.zeros.data, static_cast<int>(info(p_.zeros.dtype).bytes), group, best.zero_bits);
    }
  }

  // The candidate with the least error; of equal ones the first.
  template <class Candidate>
  EncodedGroup best_of(Candidate&& candidate, const float* elements, int64_t count) const {
    EncodedGroup best = {};
    float least = 0;
    for (int first = 0; first < kScaleCandidates; first += kTogether) {
      EncodedGroup some[kTogether];
      float errors[kTogether] = {};
      for (int i = 0; i < kTogether; ++i) some[i] = candidate(first + i);
      add_errors(some, elements, count, errors);
      for (int i = 0; i < kTogether; ++i) {
        if (first + i > 0 && !(errors[i] < least)) continue;
        best = some[i];
        least = errors[i];
      }
    }
    return best;
  }

  // Adds the squared errors of each group, in the order of the elements, as on every device: several sums at a time, as
  // each addition waits for the one before.
  static constexpr int kTogether = 4;
  static_assert(kScaleCandidates % kTogether == 0);
  void add_errors(const EncodedGroup (&groups)[kTogether], const float* elements, int64_t count,
                  float (&errors)[kTogether]) const {
    float scaled[kAtOnce], squares[kTogether][kAtOnce];
    for (int64_t first = 0; first < count; first += kAtOnce) {
      const int64_t some = std::min(kAtOnce, count - first);
      for (int g = 0; g < kTogether; ++g) {
        const EncodedGroup group = groups[g];
        scale_elements(group, elements + first, some, scaled);
        codes_.round(scaled, some, squares[g]);
        for (int64_t i = 0; i < some; ++i) {
          const float error = dequantized(group, squares[g][i]) - elements[first + i];
          squares[g][i] = error * error;
        }
      }
      for (int64_t i = 0; i < some; ++i) {
        for (int g = 0; g < kTogether; ++g) errors[g] += squares[g][i];
      }
    }
  }

  void write_codes() const {
    const int64_t columns = p_.values.columns, row_bytes = format_.row_bytes(columns);
    context_.team.for_pieces(p_.values.rows, 1, [&](int thread, int64_t begin, int64_t end) {
      float* elements = lines_ + thread * line_;
      for (int64_t row = begin; row < end; ++row) {
        read(row, 0, columns, elements);
        for (int64_t first = 0; first < columns; first += groups_.group_columns) {
          write_group_codes(stored_group(format_, weight_, row, first), elements + first,
                            std::min(groups_.group_columns, columns - first),
                            p_.codes.as<uint8_t>() + row * row_bytes + first * format_.bits / 8);
        }
      }
    });
  }

  static void scale_elements(const EncodedGroup& group, const float* elements, int64_t count, float* scaled) {
    const EncodedGroup same = group;  // no array below is part of it
    for (int64_t i = 0; i < count; ++i) scaled[i] = scaled_element(same, elements[i]);
  }

  // A group's codes in a row.
  void write_group_codes(const EncodedGroup& group, const float* elements, int64_t count, uint8_t* target) const {
    float scaled[kAtOnce];
    uint8_t codes[kAtOnce];
    for (int64_t first = 0; first < count; first += kAtOnce) {
      const int64_t some = std::min(kAtOnce, count - first);
      scale_elements(group, elements + first, some, scaled);
      codes_.find(scaled, some, codes);
      moe::write_codes(format_.bits, some, target + first * format_.bits / 8,
                       [&](int64_t i) -> uint32_t { return codes[i]; });
    }
  }

  // Whole bytes of codes, whatever their bits.
  static constexpr int64_t kAtOnce = 64;

  Context& context_;
  const Quantize& p_;
  const WeightFormat& format_;
  const WeightView weight_;
  const NearestCodes codes_;
  const GroupGrid groups_;
  Interval* intervals_ = nullptr;  // of each group's elements
  float* lines_ = nullptr;         // for each thread, a group's elements or a row's
  int64_t line_ = 0;
};

}  // namespace

Status run(Context& context, const Quantize& p) { return Quantizer(context, p).run(); }

}  // namespace moe::cpu
