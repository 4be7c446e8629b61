#include "cli/pareto_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace moesaic::cli {
namespace {

// Okabe and Ito's palette, told apart by most colour-blind readers; marks differ too.
constexpr std::array<const char*, 9> kColours{"#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                              "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b"};
constexpr double kPanelWidth = 420, kPanelHeight = 340, kLeft = 74, kTop = 56, kGap = 84, kBottom = 56, kLegend = 150;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

/// 1, 2 or 5 times a power of ten that divides `span` into about five.
double round_step(double span) {
  const double raw = span / 5, power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (raw <= factor * power) return factor * power;
  return 10 * power;
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

std::string mark(std::size_t which, double x, double y, const char* colour, const std::string& note) {
  const std::string title = "<title>" + escaped(note) + "</title>";
  switch (which % 4) {
    case 0:
      return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4.5\" fill=\"{}\">{}</circle>\n", x, y, colour,
                         title);
    case 1:
      return fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"8\" height=\"8\" fill=\"{}\">{}</rect>\n", x - 4,
                         y - 4, colour, title);
    case 2:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 9h-10z\" fill=\"{}\">{}</path>\n", x, y - 6, colour, title);
    default:
      return fmt::format("<path d=\"M{:.1f} {:.1f}l5 5l-5 5l-5 -5z\" fill=\"{}\">{}</path>\n", x, y - 5, colour, title);
  }
}

}  // namespace

std::string pareto_svg(const std::string& title, const std::string& loss_axis, const std::vector<std::string>& axes,
                       const std::vector<ParetoSeries>& series) {
  const double width = kLeft + static_cast<double>(axes.size()) * (kPanelWidth + kGap) - kGap + kLegend;
  const double height = kTop + kPanelHeight + kBottom;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
      "<text x=\"{2:.0f}\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{3}</text>\n",
      width, height, kLeft, escaped(title));
  Range loss;
  for (const ParetoSeries& s : series)
    for (const double value : s.loss)
      if (value > 0) loss.add(std::log10(value));
  if (loss.empty()) loss = {-1, 0};
  const double margin = std::max(0.05, 0.06 * (loss.high - loss.low));
  loss = {loss.low - margin, loss.high + margin};
  const double bottom = kTop + kPanelHeight;
  const auto y_of = [&](double value) {
    return bottom - (std::log10(value) - loss.low) / (loss.high - loss.low) * kPanelHeight;
  };
  for (std::size_t panel = 0; panel < axes.size(); ++panel) {
    const double left = kLeft + static_cast<double>(panel) * (kPanelWidth + kGap);
    Range cost;
    for (const ParetoSeries& s : series)
      for (std::size_t i = 0; i < s.loss.size(); ++i)
        if (s.loss[i] > 0) cost.add(s.costs[panel][i]);
    if (cost.empty()) cost = {0, 1};
    const double spare = std::max(1e-9 + 0.05 * (cost.high - cost.low), 0.005 * std::abs(cost.high));
    cost = {cost.low - spare, cost.high + spare};
    const auto x_of = [&](double value) { return left + (value - cost.low) / (cost.high - cost.low) * kPanelWidth; };
    svg += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" stroke=\"#333333\"/>\n", left,
        kTop, kPanelWidth, kPanelHeight);
    const double step = round_step(cost.high - cost.low);
    for (double value = std::ceil(cost.low / step) * step; value <= cost.high; value += step)
      svg += fmt::format(
          "<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" stroke=\"#dddddd\"/>\n"
          "<text x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4:g}</text>\n",
          x_of(value), kTop, bottom, bottom + 18, value);
    for (int power = static_cast<int>(std::floor(loss.low)); power <= static_cast<int>(std::ceil(loss.high)); ++power)
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double value = factor * std::pow(10.0, power);
        if (std::log10(value) < loss.low || std::log10(value) > loss.high) continue;
        svg += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{2:.1f}\" y2=\"{1:.1f}\" stroke=\"#dddddd\"/>\n",
                           left, y_of(value), left + kPanelWidth);
        svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n", left - 6,
                           y_of(value) + 4, value);
      }
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n", left + kPanelWidth / 2,
                       bottom + 40, escaped(axes[panel]));
    for (std::size_t s = 0; s < series.size(); ++s) {
      const char* colour = kColours[s % kColours.size()];
      std::vector<std::size_t> order;
      for (std::size_t i = 0; i < series[s].loss.size(); ++i)
        if (series[s].loss[i] > 0) order.push_back(i);
      const std::vector<double>& costs = series[s].costs[panel];
      std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return costs[a] < costs[b]; });
      std::string line, marks;
      for (const std::size_t i : order) {
        const double x = x_of(costs[i]), y = y_of(series[s].loss[i]);
        line += fmt::format("{}{:.1f},{:.1f}", line.empty() ? "" : " ", x, y);
        marks += mark(s, x, y, colour, series[s].name + ": " + series[s].notes[i]);
      }
      svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n{}", line, colour,
                         marks);
    }
  }
  svg += fmt::format("<text transform=\"translate({:.1f} {:.1f}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
                     18.0, kTop + kPanelHeight / 2, escaped(loss_axis));
  const double legend = width - kLegend + 20;
  for (std::size_t s = 0; s < series.size(); ++s) {
    const double y = kTop + 14 + 20 * static_cast<double>(s);
    svg += mark(s, legend, y - 4, kColours[s % kColours.size()], series[s].name);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", legend + 14, y, escaped(series[s].name));
  }
  return svg + "</svg>\n";
}

}  // namespace moesaic::cli
