// The framer under any bytes. Oracle: what comes out does not depend on where the inputs end, every
// byte comes out once and in order, and the frames keep what framer.h promises.
//
// Input: one byte that chooses the side and the maximum, eight that choose where the stream is cut,
// then the stream.
#include <array>
#include <string>
#include <vector>

#include "base/limits.h"
#include "expect.h"
#include "wire/framer.h"

namespace pgfresh::wire {
namespace {

struct Message {
  char type = 0;
  uint32_t size = 0;
  std::string bytes;  // short of `size` only when it is the last one
  bool operator==(const Message&) const = default;
};

struct Outcome {
  std::vector<Message> messages;
  std::string error;
  bool at_boundary = false;
  bool operator==(const Outcome&) const = default;
};

class Run {
 public:
  Run(Side side, uint32_t max) : side_(side), framer_(side, max) {}

  // False: broken.
  bool feed(std::string_view bytes) {
    const fuzz::Exact input(bytes);
    std::string_view in = input.view();
    while (true) {
      Frame frame;
      const char* const before = in.data();
      const Cut cut = framer_.next(in, frame);
      switch (cut) {
        case Cut::kNeedMore:
          FUZZ_EXPECT(in.empty());
          return true;
        case Cut::kBroken:
          FUZZ_EXPECT(!framer_.error().empty());
          return false;
        case Cut::kMessage:
        case Cut::kPart:
          check(cut, frame, before, in);
          take(frame);
          break;
      }
    }
  }

  Outcome outcome() { return {std::move(messages_), framer_.error(), framer_.at_boundary()}; }

 private:
  void check(Cut cut, const Frame& frame, const char* before, std::string_view in) const {
    FUZZ_EXPECT(!frame.bytes.empty());
    FUZZ_EXPECT(frame.size >= 5);
    if (frame.bytes.data() == before) {
      FUZZ_EXPECT(in.data() == before + frame.bytes.size());
    }
    if (cut == Cut::kMessage) {
      FUZZ_EXPECT(frame.first && frame.last && frame.bytes.size() == frame.size);
    } else {
      const uint32_t whole_max =
          side_ == Side::kFrontend ? limits::kFrontendWholeMax : limits::kBackendWholeMax;
      const bool row = side_ == Side::kBackend && frame.type == 'D';
      FUZZ_EXPECT(row || frame.type == 'd' || frame.size > whole_max);
    }
    FUZZ_EXPECT(frame.first != open_);
    if (frame.first) FUZZ_EXPECT(frame.bytes.size() >= 5 && frame.bytes[0] == frame.type);
    FUZZ_EXPECT(framer_.at_boundary() == frame.last);
    FUZZ_EXPECT(framer_.held_bytes() <= 2 * size_t{limits::kFrontendWholeMax});
  }

  void take(const Frame& frame) {
    if (frame.first) messages_.push_back({frame.type, frame.size, {}});
    Message& message = messages_.back();
    FUZZ_EXPECT(frame.type == message.type && frame.size == message.size);
    message.bytes += frame.bytes;
    if (frame.last) FUZZ_EXPECT(message.bytes.size() == message.size);
    open_ = !frame.last;
  }

  Side side_;
  Framer framer_;
  std::vector<Message> messages_;
  bool open_ = false;
};

// What has come out is the stream itself, from its beginning.
void check_complete(const Outcome& outcome, std::string_view stream) {
  for (const Message& message : outcome.messages) {
    FUZZ_EXPECT(stream.substr(0, message.bytes.size()) == message.bytes);
    stream.remove_prefix(message.bytes.size());
  }
  if (outcome.at_boundary) FUZZ_EXPECT(stream.empty());
}

Outcome run_cut(Side side, uint32_t max, std::string_view stream, std::string_view cuts) {
  Run run(side, max);
  for (size_t turn = 0; !stream.empty(); ++turn) {
    // Without a choice byte by byte; small steps are where headers are cut.
    const size_t step = cuts.empty() ? 1 : static_cast<unsigned char>(cuts[turn % cuts.size()]);
    if (!run.feed(fuzz::take(stream, step == 255 ? 4096 : step))) break;
    if (step == 0 && turn > cuts.size()) cuts = {};
  }
  return run.outcome();
}

}  // namespace
}  // namespace pgfresh::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  std::string_view input = fuzz::as_view(data, size);
  const std::string_view choice = fuzz::take(input, 1);
  const std::string_view cuts = fuzz::take(input, 8);
  const unsigned bits = choice.empty() ? 0 : static_cast<unsigned char>(choice[0]);
  const wire::Side side = (bits & 1) != 0 ? wire::Side::kBackend : wire::Side::kFrontend;
  constexpr std::array<uint32_t, 4> kMaxima = {limits::kMessageBytesMax, 100'000, 1000, 5};
  const uint32_t max = kMaxima[(bits >> 1) & 3];

  wire::Run run(side, max);
  static_cast<void>(run.feed(input));
  const wire::Outcome whole = run.outcome();
  wire::check_complete(whole, input);
  FUZZ_EXPECT(wire::run_cut(side, max, input, cuts) == whole);
  FUZZ_EXPECT(wire::run_cut(side, max, input, {}) == whole);
  return 0;
}
