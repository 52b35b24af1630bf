// The framer: the one place every byte of the data path goes through, so the common case (message
// whole in the input) is a few compares and no copy. Whatever crosses the end of an input takes the
// slow ways below it. The outcome does not depend on where inputs end, but for two things: DataRow
// and CopyData come whole or in parts, and a cut header is a part of its own.
//
// Not done here: the startup phase (startup.cc), which has no type bytes, and any look into bodies.
#include "wire/framer.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/limits.h"
#include "wire/bytes.h"

namespace pgfresh::wire {
namespace {

// What is to be done with a type of message.
enum class Need : uint8_t {
  kUnknown,  // not a type of this side
  kWhole,    // held until whole, up to the side's maximum
  kAsComes,  // whole when it lies whole in the input, whatever its size, else in parts
};
using NeedTable = std::array<Need, 256>;

constexpr NeedTable needs(std::string_view whole, std::string_view as_comes) {
  NeedTable table{};
  for (const char type : whole) table[static_cast<unsigned char>(type)] = Need::kWhole;
  for (const char type : as_comes) table[static_cast<unsigned char>(type)] = Need::kAsComes;
  return table;
}

// PostgreSQL manual, "Message Formats", in the order of that chapter.
constexpr std::array<NeedTable, 2> kNeeds = {
    // Frontend: Bind, Close, CopyDone, CopyFail, Describe, Execute, Flush, FunctionCall, Parse,
    // the passwords and SASL responses, Query, Sync, Terminate; CopyData.
    needs("BCcfDEHFPpQSX", "d"),
    // Backend: the authentications, BackendKeyData, BindComplete, CloseComplete, CommandComplete,
    // CopyDone, CopyIn-, CopyOut- and CopyBothResponse, EmptyQuery, Error, FunctionCallResponse,
    // NegotiateProtocolVersion, NoData, Notice, Notification, ParameterDescription,
    // ParameterStatus, ParseComplete, PortalSuspended, ReadyForQuery, RowDescription; CopyData,
    // DataRow.
    needs("RK23CcGHWIEVvnNAtS1sZT", "dD"),
};

}  // namespace

Framer::Framer(Side side, uint32_t message_bytes_max)
    : side_(side),
      size_max_(side == Side::kFrontend ? message_bytes_max : message_bytes_max + kHeaderBytes),
      whole_max_(side == Side::kFrontend ? limits::kFrontendWholeMax : limits::kBackendWholeMax) {
  PGFRESH_CHECK(message_bytes_max <= limits::kMessageBytesMax);
}

Cut Framer::next(std::string_view& in, Frame& frame) {
  if (state_ != State::kBetween) [[unlikely]] {
    if (state_ != State::kHandedOut) return resume(in, frame);
    free_held();
    state_ = State::kBetween;
  }
  if (in.size() < kHeaderBytes) [[unlikely]]
    return hold(in);
  Header header;
  if (!read_header(in.data(), header)) [[unlikely]]
    return Cut::kBroken;
  if (header.size <= in.size() && header.whole_ok) [[likely]] {
    frame = {header.type, header.size, in.substr(0, header.size), true, true};
    in.remove_prefix(header.size);
    return Cut::kMessage;
  }
  if (!header.in_parts) return hold(in);
  const std::string_view piece = in.substr(0, header.size);
  in.remove_prefix(piece.size());
  return begin_parts(header, piece, frame);
}

// Looks at the 5 bytes at `at`. False: broken, and state_ says so.
inline bool Framer::read_header(const char* at, Header& header) {
  const char type = *at;
  const uint32_t length = load_u32(at + 1);
  const Need need = kNeeds[static_cast<size_t>(side_)][static_cast<unsigned char>(type)];
  if (need == Need::kUnknown) [[unlikely]] {
    break_off("invalid message type ", static_cast<unsigned char>(type));
    return false;
  }
  // Compared before 1 is added: the length may be 2^32 - 1.
  if (length < 4 || length >= size_max_) [[unlikely]] {
    const bool long_one = side_ == Side::kFrontend && length >= size_max_;
    break_off(long_one ? "message longer than limits.message_bytes: " : "invalid message length ",
              length);
    return false;
  }
  const uint32_t size = length + 1;
  const bool small = size <= whole_max_;
  header = {type, size, need == Need::kAsComes || !small, need == Need::kAsComes || small};
  return true;
}

Cut Framer::resume(std::string_view& in, Frame& frame) {
  switch (state_) {
    case State::kHolding:
      return continue_held(in, frame);
    case State::kInParts:
      return continue_parts(in, frame);
    case State::kBroken:
      return Cut::kBroken;
    case State::kBetween:
    case State::kHandedOut:
      break;
  }
  PGFRESH_CHECK(false);
  return Cut::kBroken;
}

Cut Framer::continue_held(std::string_view& in, Frame& frame) {
  const auto fill_to = [&](size_t size) {
    const size_t count = std::min(size - std::min(size, held_.size()), in.size());
    held_.append(in.substr(0, count));
    in.remove_prefix(count);
    return held_.size() >= size;
  };
  if (!fill_to(kHeaderBytes)) return Cut::kNeedMore;
  Header header;
  if (!read_header(held_.data(), header)) return Cut::kBroken;
  // Only a header that has just become whole can turn out so, hence nothing but it is in held_.
  if (header.in_parts && header.size > kHeaderBytes) return begin_parts(header, held_, frame);
  if (!fill_to(header.size)) return Cut::kNeedMore;
  state_ = State::kHandedOut;
  frame = {header.type, header.size, held_, true, true};
  return Cut::kMessage;
}

Cut Framer::continue_parts(std::string_view& in, Frame& frame) {
  free_held();
  if (in.empty()) return Cut::kNeedMore;
  const std::string_view piece = in.substr(0, part_left_);
  in.remove_prefix(piece.size());
  part_left_ -= static_cast<uint32_t>(piece.size());
  if (part_left_ == 0) state_ = State::kBetween;
  frame = {part_type_, part_size_, piece, false, part_left_ == 0};
  return Cut::kPart;
}

// `piece` begins with the header, and lies in the input or is held_.
Cut Framer::begin_parts(const Header& header, std::string_view piece, Frame& frame) {
  part_type_ = header.type;
  part_size_ = header.size;
  part_left_ = header.size - static_cast<uint32_t>(piece.size());
  state_ = part_left_ == 0 ? State::kBetween : State::kInParts;
  frame = {header.type, header.size, piece, true, part_left_ == 0};
  return Cut::kPart;
}

// The rest of the input is the beginning of a message. It is copied as it comes, without a reserve
// for the announced size: a peer that announces 64 KB and sends 5 bytes shall cost 5 bytes.
Cut Framer::hold(std::string_view& in) {
  if (in.empty()) return Cut::kNeedMore;
  held_.assign(in);
  in.remove_prefix(in.size());
  state_ = State::kHolding;
  return Cut::kNeedMore;
}

void Framer::free_held() {
  // Swapped: assigning an empty string, even a moved one, would keep the memory.
  if (!held_.empty()) std::string().swap(held_);
}

void Framer::break_off(const char* what, uint32_t value) {
  error_ = std::string(what) + std::to_string(value);
  free_held();
  state_ = State::kBroken;
}

}  // namespace pgfresh::wire
