// Arithmetic of the host and of CUDA devices: a whole in pieces, a number in two parts, and sums that lose nothing. The
// per-ISA translation units, which must define nothing that another file may be linked to, do without.
#pragma once

#include <cstdint>

#include "common/portable.h"

namespace nrc_fast {

// How many pieces of `size` hold `count`.
NRC_FAST_BOTH std::int64_t ceiling(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }
NRC_FAST_BOTH std::int64_t round_up(std::int64_t count, std::int64_t size) { return ceiling(count, size) * size; }

// A float64 number as the sum of two of the type that is computed with; of float64 nothing is left for the second.
template <class Value>
struct HighAndLow {
  Value high;
  Value low;
};

template <class Value>
NRC_FAST_BOTH HighAndLow<Value> high_and_low(double number) {
  const Value high = static_cast<Value>(number);
  if constexpr (sizeof(Value) == 8) {
    return {high, 0};
  } else {
    return {high, static_cast<Value>(number - static_cast<double>(high))};
  }
}

// A sum whose roundings are added up beside it: off by little more than one rounding, however many numbers it is of.
struct CompensatedSum {
  double sum = 0.0;
  double lost = 0.0;

  NRC_FAST_BOTH void add(double number) {
    const double before = sum;
    sum += number;
    const double added = sum - before;
    lost += (before - (sum - added)) + (number - added);
  }
  NRC_FAST_BOTH void add(const CompensatedSum& other) {
    add(other.sum);
    lost += other.lost;
  }
  // Of a sum that is not finite nothing that counts was lost.
  NRC_FAST_BOTH double total() const { return sum - sum == 0.0 ? sum + lost : sum; }
};

}  // namespace nrc_fast
