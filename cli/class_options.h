#pragma once
/// Classes of requests on the command line: their shares and weights, and how they may read an expert's stored copy.
#include <cstddef>
#include <string>
#include <vector>

#include "mapping/problem.h"
#include "sim/profile/profile.h"

namespace moesaic::cli {

inline constexpr const char* kRisingOrder = "rising";
inline constexpr const char* kAnyOrder = "any";
inline constexpr const char* kSharesOfTrace = "trace";

struct ClassOptions {
  std::string shares;   ///< --class-shares: a list, kSharesOfTrace, or nothing
  std::string weights;  ///< --class-weights
  std::string order;    ///< --class-order; rising when empty
};

/// The classes that a list of shares says; none without one. Refuses (InputError at `where`) numbers that are no
/// shares, shares that do not add up to 1, another number of weights, weights or an order without shares.
mapping::Classes parse_classes(const ClassOptions& options, const std::string& where);
/// The weights, of `classes.shares` that come from elsewhere.
void parse_weights(const ClassOptions& options, const std::string& where, mapping::Classes& classes);

/// Refuses (InputError) formats of which no two are read of one stored copy.
void check_widths(const std::vector<numerics::Format>& formats, std::size_t classes, const std::string& where,
                  const std::string& key);

/// Every way of two or more classes to read one of the formats, check_widths() included; at most
/// mapping::kMostChoices.
std::vector<mapping::Reading> class_readings(const std::vector<numerics::Format>& formats, std::size_t classes,
                                             bool rising, const std::string& where, const std::string& key);

/// The same as a profile takes them.
std::vector<profile::Reads> reads_of(const std::vector<mapping::Reading>& readings, std::size_t classes);

/// "int4", "int2/int2/int4", or one format for each class: "mwq2+0of2:mwq2+2". InputError for anything else, and for
/// formats that are not of one stored copy.
mapping::Reading parse_reading(const std::string& text, std::size_t classes, const std::string& where,
                               const std::string& key);

}  // namespace moesaic::cli
