#pragma once
/// timeline.json read back as a viewer reads it: events of a track in the order of their times, as they are in floating
/// point; spans are pairs of a beginning and an end, which must nest.
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moesaic::tests {

struct TimelineSpan {
  int track = 0;
  long long begin = 0, end = 0;  ///< femtoseconds
  std::string name;
  nlohmann::json args;
};

/// In the file's order. Spans of the storage, which overlap, are not among them.
inline std::vector<TimelineSpan> timeline_spans(const nlohmann::json& trace) {
  std::vector<TimelineSpan> spans;
  std::map<int, std::vector<std::size_t>> open;
  std::map<int, double> last;
  const auto is_span = [](const std::string& kind) { return kind == "B" || kind == "E"; };
  for (const auto& event : trace["traceEvents"]) {
    const std::string kind = event["ph"];
    REQUIRE((is_span(kind) || kind == "M" || kind == "C" || kind == "b" || kind == "e"));
    if (!is_span(kind)) continue;
    const int track = event["tid"];
    const double at = event["ts"];
    if (last.count(track) != 0) REQUIRE(at >= last[track]);
    last[track] = at;
    const long long fs = std::llround(at * 1e9);
    if (kind == "B") {
      open[track].push_back(spans.size());
      spans.push_back({track, fs, fs, event["name"], event["args"]});
    } else {
      REQUIRE(!open[track].empty());
      REQUIRE(event["name"] == spans[open[track].back()].name);
      spans[open[track].back()].end = fs;
      open[track].pop_back();
    }
  }
  for (const auto& [track, left] : open) REQUIRE(left.empty());
  return spans;
}

}  // namespace moesaic::tests
