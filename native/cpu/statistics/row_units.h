// Sums over the rows of each sequence, unit by unit; see RowUnits.
#pragma once

#include <algorithm>

#include "core/operators/statistics.h"
#include "cpu/runtime/team.h"

namespace moe::cpu {

// Calls unit(first row, last row + 1, the unit's index) for every unit, on all threads.
template <class Unit>
void for_each_unit(const Team& team, const RowUnits& units, Unit&& unit) {
  team.for_range(units.all(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sequence = i / units.units;
      const int64_t first = i % units.units * units.rows_per_unit;
      const int64_t last = std::min(units.rows, first + units.rows_per_unit);
      unit(sequence * units.rows + first, sequence * units.rows + last, i);
    }
  });
}

// The sum of a column over a sequence's units, in order.
template <class T>
T sum_of_units(const T* partials, const RowUnits& units, int64_t sequence, int64_t columns, int64_t column) {
  T sum = 0;
  for (int64_t u = 0; u < units.units; ++u) sum += partials[(sequence * units.units + u) * columns + column];
  return sum;
}

}  // namespace moe::cpu
