#pragma once
/// A state to bytes and back, field by field, for visit_state() of the machine's parts.
#include <cstdint>

#include "base/varint.h"

namespace moesaic::fast {

struct StateWriter : base::VarintWriter {
  using base::VarintWriter::VarintWriter;
  template <class T>
  void operator()(const T& field) {
    put(static_cast<std::uint64_t>(field));
  }
};

struct StateReader : base::VarintReader {
  using base::VarintReader::VarintReader;
  template <class T>
  void operator()(T& field) {
    field = static_cast<T>(get());
  }
};

}  // namespace moesaic::fast
