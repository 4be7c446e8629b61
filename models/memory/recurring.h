#pragma once
/// A memory that comes back to states. While a single port reads, what the memory does next follows from its clocks,
/// from what waits in its queues and from which of the rows that are asked for are open, whatever the addresses are.
/// Such a state is a *moment*, and refreshes come at known times. Equal moments and reading that looks equal
/// (Recurring::Pattern) give equal answers and equal moments afterwards: who has seen a *stretch* of it need not ask
/// again, but passes it, and goes back to asking at the moment that it leads to.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/units.h"

namespace moesaic::memory {

class Recurring {
 public:
  virtual ~Recurring() = default;

  /// Appends all that decides what the memory does from `now` on if from now on only `port` reads, until another
  /// refresh is due: clocks relative to `now`; channels, groups and banks counted from those behind end() on. False:
  /// not now, as other ports have something under way.
  virtual bool export_moment(unsigned port, base::Cycles now, std::string& moment) = 0;
  /// A number that equal moments share, and different ones seldom, for less than export_moment() costs. Nothing where
  /// other ports have something under way.
  virtual std::optional<std::uint64_t> glance(unsigned port, base::Cycles now) = 0;
  /// Becomes what export_moment() appended, as of `now`, after the stretches that were passed since.
  virtual void import_moment(unsigned port, base::Cycles now, std::string_view moment) = 0;
  /// No refresh is due from `now` on for what is asked before this cycle.
  virtual base::Cycles undisturbed_until(base::Cycles now) const = 0;
  /// Clocks of the memory from `now` to when the next refresh is due.
  virtual std::int64_t until_refresh(base::Cycles now) const = 0;

  /// The address behind the burst that the port read last, and behind that of a read of `bytes` bytes.
  virtual std::uint64_t end(unsigned port) const = 0;
  virtual std::uint64_t end_of(std::uint64_t address, std::uint64_t bytes) const = 0;
  /// Beats of the port that were asked for and not taken.
  virtual std::uint64_t owed(unsigned port) const = 0;

  /// What happened between two moments, in bytes that only the memory reads: counts, rows, writes that were done.
  struct Stretch {
    std::string_view what;
    bool waits = false;     ///< at its end reads wait that are not issued yet
    bool closes = false;    ///< in it all rows were closed: those that were open may be opened again
    std::string_view open;  ///< banks that were open at its beginning, in bytes that only the memory reads
  };

  /// What a memory can tell apart of a read by a port that has read up to `end`: where it goes on from there, and which
  /// of its rows are open, closed, or wanted in a bank in which another is open.
  struct Pattern {
    std::uint64_t exact = 0;  ///< bytes from there on: they matter if reads wait in the end (Stretch::waits)
    std::uint64_t rows = 0;   ///< of each burst
    std::uint32_t place = 0;
    std::uint32_t blocks = 0;  ///< where they lie, from where the reading began: it matters if any of them is opened
    static constexpr std::uint32_t kFar = ~std::uint32_t{0};  ///< of blocks: too far away to tell
    /// Whether a read of each makes `stretch` happen.
    bool equals(const Pattern& other, const Stretch& stretch) const {
      if (place != other.place || rows != other.rows || (stretch.waits && exact != other.exact)) return false;
      return (rows == 0 && !stretch.closes) || (blocks == other.blocks && blocks != kFar);
    }
  };
  /// Reading straight on from end(), each time from where it ended, has the pattern Pattern() up to this address, with
  /// the rows as they are; end() where that is not so.
  virtual std::uint64_t plain_until(unsigned port) = 0;
  /// With the rows as they are, or as they were at mark(), when the port had read up to `origin`. Nothing for reads
  /// that are too long to tell.
  virtual std::optional<Pattern> pattern(std::uint64_t origin, std::uint64_t end, std::uint64_t address,
                                         std::uint64_t bytes, bool at_mark) = 0;

  /// A stretch begins here, at `now`. It may consist of stretches that are passed and leave the rows as they are.
  virtual void mark(unsigned port, base::Cycles now) = 0;
  /// Appends what happened since mark(), as Stretch has it; returns the rest of it. Nothing, where it was too much.
  virtual std::optional<Stretch> stretch(std::string& what) = 0;
  /// Appends Stretch::open of the stretch that stretch() told of, which must be known where a refresh is due in it.
  virtual void export_open(std::string& open) const = 0;
  /// Whether a refresh that is due finds banks open now if it did in the stretch: if it need not close any, the same
  /// are open as were then; if it must, those and maybe others.
  virtual bool is_open_alike(unsigned port, std::string_view open) const = 0;
  /// The stretch happens again, at `now`, with reading up to `end`: a refresh that was due in it is due as long after
  /// its beginning as then. The memory is then asked nothing but the constant questions of this class and take_held(),
  /// until import_moment(). Returns whether other rows may be open than before.
  virtual bool pass(unsigned port, const Stretch& stretch, std::uint64_t end, base::Cycles now) = 0;
};

}  // namespace moesaic::memory
