#include "sim/run/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "sim/run/summary.h"
#include "sim/run/totals.h"

namespace moesaic::run {

std::optional<RunTexts> RunFiles::make(const FilesOptions& options, const Engine& engine) {
  LowerChoices choices;
  choices.barriers = options.barriers;
  choices.data = options.data;
  StreamedProgram program(workload_, inputs_, chip_, choices);
  std::vector<std::uint64_t> ends;  // of steps, where a schedule has to follow from them
  Totals totals(chip_, workload_, inputs_, [&](const Step& step, const StepTimes& times) {
    steps_.append(steps_csv_row(step, times));
    if (options.scheduler != nullptr) ends.push_back(times.end);
  });
  RecorderOptions recording;
  recording.totals = &totals;
  recording.timeline = &timeline_;
  recording.check = options.data;
  recording.threads = options.threads;
  if (options.progress) recording.progress = options.progress("simulate", program.phases());
  RunRecorder recorder(inputs_, program, std::move(recording));

  const program::EngineRun engine_run = engine(program, recorder);
  if (engine_run.cut) return std::nullopt;
  totals.close(program.program(), engine_run);
  if (options.scheduler != nullptr && !options.scheduler->follows_from(ends))
    throw base::CheckError("continuous batching: got ends of steps from which another schedule follows");
  timeline_.finish(engine_run, options.engine);
  steps_.flush();
  const Run run{chip_,  workload_,      inputs_,      program.program(),         engine_run,
                totals, options.engine, options.seed, recorder.values_compared()};
  RunTexts texts;
  texts.summary = summary_json(run);
  texts.layers = layers_csv(run);
  texts.experts = experts_csv(run);
  texts.requests = requests_csv(run);
  texts.page = page(run);
  texts.cycles = engine_run.cycles;
  return texts;
}

void RunFiles::write_steps(const std::function<void(std::string_view piece)>& to) {
  to(kStepsCsvHeader);
  steps_.read_all(to);
}

namespace {

std::string_view line_at(std::string_view text, std::size_t begin) {
  return text.substr(begin, std::min(text.find('\n', begin), text.size()) - begin);
}

/// Of a line, some of it around a place.
std::string excerpt(std::string_view line, std::size_t at) {
  constexpr std::size_t kBefore = 60, kMost = 120;
  const std::size_t begin = std::min(at > kBefore ? at - kBefore : 0, line.size());
  std::string_view part = line.substr(begin, kMost);
  part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
  return fmt::format("`{}{}{}`", begin > 0 ? "..." : "", part, begin + kMost < line.size() ? "..." : "");
}

std::string all_of(const std::function<void(const std::function<void(std::string_view)>&)>& write) {
  std::string text;
  write([&text](std::string_view piece) { text += piece; });
  return text;
}

}  // namespace

std::string first_text_difference(const std::string& name, std::string_view a, std::string_view b,
                                  const std::string& a_name, const std::string& b_name) {
  if (a == b) return "";
  const auto at = static_cast<std::size_t>(
      std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(std::min(a.size(), b.size())), b.begin()).first -
      a.begin());
  const std::string_view same = a.substr(0, at);
  const std::size_t begin = same.rfind('\n') == std::string_view::npos ? 0 : same.rfind('\n') + 1;
  const auto line = 1 + std::count(same.begin(), same.end(), '\n');
  std::string where = fmt::format("{}:{}", name, line);
  std::string_view left = line_at(a, begin), right = line_at(b, begin);
  std::size_t from = begin;  // of what is shown
  if (name.size() > 4 && name.compare(name.size() - 4, 4, ".csv") == 0 && line > 1) {
    const auto column = std::count(same.begin() + static_cast<std::ptrdiff_t>(begin), same.end(), ',');
    const std::string_view header = line_at(a, 0);
    std::size_t first = 0;
    for (std::ptrdiff_t i = 0; i < column && first <= header.size(); ++i)
      first = std::min(header.find(',', first), header.size()) + 1;
    from = same.find_last_of(",\n") + 1;
    const auto cell = [&](std::string_view text) {
      const std::string_view rest = line_at(text, from);
      return rest.substr(0, rest.find(','));
    };
    left = cell(a), right = cell(b);
    if (first < header.size())
      where += fmt::format(": {}", header.substr(first, std::min(header.find(',', first), header.size()) - first));
  }
  return fmt::format("{}: {} {}, {} {}", where, a_name, excerpt(left, at - from), b_name, excerpt(right, at - from));
}

std::string first_file_difference(RunFiles& a, const RunTexts& a_texts, RunFiles& b, const RunTexts& b_texts,
                                  const std::string& a_name, const std::string& b_name) {
  const auto steps_of = [](RunFiles& files) { return all_of([&](const auto& to) { files.write_steps(to); }); };
  const auto timeline_of = [](RunFiles& files) { return all_of([&](const auto& to) { files.write_timeline(to); }); };
  std::string difference = first_text_difference("steps.csv", steps_of(a), steps_of(b), a_name, b_name);
  for (const auto& [name, text] :
       {std::pair("layers.csv", &RunTexts::layers), std::pair("experts.csv", &RunTexts::experts),
        std::pair("requests.csv", &RunTexts::requests), std::pair("summary.json", &RunTexts::summary),
        std::pair("the page", &RunTexts::page)})
    if (difference.empty()) difference = first_text_difference(name, a_texts.*text, b_texts.*text, a_name, b_name);
  if (difference.empty())
    difference = first_text_difference("timeline.json", timeline_of(a), timeline_of(b), a_name, b_name);
  return difference;
}

}  // namespace moesaic::run
