#pragma once
/// Allocators' points as one SVG: loss over a cost, a line for each allocator, one panel for each cost. Self-contained:
/// no script, no font, nothing fetched.
#include <string>
#include <utility>
#include <vector>

namespace moesaic::cli {

struct ParetoSeries {
  std::string name;
  std::vector<std::vector<double>> costs;  ///< [panel][point]
  std::vector<double> loss;                ///< [point], above 0 to be drawn: the axis is logarithmic
  std::vector<std::string> notes;          ///< [point], shown when pointed at
};

/// `axes` names the cost of each panel, with its unit.
std::string pareto_svg(const std::string& title, const std::string& loss_axis, const std::vector<std::string>& axes,
                       const std::vector<ParetoSeries>& series);

}  // namespace moesaic::cli
