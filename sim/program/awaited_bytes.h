#pragma once
#include <cstdint>
#include <map>

namespace moesaic::program {

/// Bytes of the memory that hold nothing yet: a load for them has not completed.
class AwaitedBytes {
 public:
  void add(std::uint64_t begin, std::uint64_t end);
  void remove(std::uint64_t begin, std::uint64_t end);
  bool contains(std::uint64_t address) const;
  bool contains_any(std::uint64_t begin, std::uint64_t end) const;
  bool empty() const { return ranges_.empty(); }

 private:
  std::map<std::uint64_t, std::uint64_t> ranges_;  // end by begin, disjoint
};

}  // namespace moesaic::program
