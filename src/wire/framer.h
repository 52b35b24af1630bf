// Cuts a byte stream into protocol messages (PostgreSQL manual, chapter "Message Formats": one type
// byte, then a length that counts itself but not the type). Small messages come out whole; large
// ones, and those of types nobody needs whole, come out in parts as they arrive, so that a 1 GB row
// costs no memory. No I/O, no clock.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pgfresh::wire {

enum class Cut : uint8_t {
  kMessage,   // frame.bytes is one whole message
  kPart,      // frame.bytes is the next piece of a message
  kNeedMore,  // the input is used up; call again with more
  kBroken,    // the stream is not the protocol; error() says why. Stays so.
};

// Type and length.
inline constexpr uint32_t kHeaderBytes = 5;

struct Frame {
  char type = 0;
  uint32_t size = 0;       // of the whole message: type byte, length and body
  std::string_view bytes;  // kMessage: the whole message. kPart: this piece, never empty.
  bool first = false;      // this piece begins with the header (kHeaderBytes at least)
  bool last = false;       // this piece ends the message; a kMessage is first and last

  // The body of a kMessage frame, behind type and length.
  [[nodiscard]] std::string_view body() const { return bytes.substr(kHeaderBytes); }
  // All of the message is here.
  [[nodiscard]] bool whole() const { return bytes.size() == size; }
};

// Which side's messages are cut: it decides the known types and what is needed whole.
enum class Side : uint8_t { kFrontend, kBackend };

class Framer {
 public:
  // `message_bytes_max` bounds a message of the frontend with its header, and the body of one of
  // the backend: PostgreSQL itself counts so, and its largest row has to pass.
  // REQUIRES: message_bytes_max <= limits::kMessageBytesMax.
  Framer(Side side, uint32_t message_bytes_max);

  // Takes the next message or part from the front of `in` and advances it. A view in `frame` lies
  // either in what `in` pointed to or in the framer's own buffer, and is valid until the next call
  // or until the input's memory goes, whichever is first. Pieces that lie in `in` are contiguous
  // with their neighbours, so that a caller can forward a run of messages with one write.
  //
  // Whole: frontend messages up to limits::kFrontendWholeMax, except CopyData; backend messages
  // up to limits::kBackendWholeMax, except DataRow and CopyData (these come whole when they lie
  // whole in `in`, else in parts). A message not whole in `in` is copied into the framer's buffer
  // until it is; the buffer's memory is given back when it is empty again. A header that was cut by
  // the end of an input comes out of that buffer, alone, when its message goes out in parts.
  // Broken: an unknown type byte of that side, a length below 4, a size above the maximum. Known
  // types are those of protocol 3.0 to 3.2.
  [[nodiscard]] Cut next(std::string_view& in, Frame& frame);

  // True between messages: nothing held, no part outstanding, not broken.
  [[nodiscard]] bool at_boundary() const {
    return state_ == State::kBetween || state_ == State::kHandedOut;
  }
  // A message has gone out in part, and its end has not come.
  [[nodiscard]] bool in_parts() const { return state_ == State::kInParts; }
  [[nodiscard]] size_t held_bytes() const { return held_.capacity(); }
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  enum class State : uint8_t {
    kBetween,    // the next byte is a type byte; held_ is empty
    kHolding,    // held_ has the beginning of a message, maybe not even its header
    kHandedOut,  // held_ was a whole message and is seen by the caller until the next call
    kInParts,    // part_left_ > 0; held_ may be a header that the caller sees until the next call
    kBroken,
  };
  struct Header {
    char type = 0;
    uint32_t size = 0;
    bool in_parts = false;  // goes out in parts unless it may come whole and does
    bool whole_ok = false;  // may be handed out whole when it lies whole in the input
  };

  [[nodiscard]] bool read_header(const char* at, Header& header);
  [[nodiscard]] Cut resume(std::string_view& in, Frame& frame);
  [[nodiscard]] Cut continue_held(std::string_view& in, Frame& frame);
  [[nodiscard]] Cut continue_parts(std::string_view& in, Frame& frame);
  [[nodiscard]] Cut begin_parts(const Header& header, std::string_view piece, Frame& frame);
  [[nodiscard]] Cut hold(std::string_view& in);
  void free_held();
  void break_off(const char* what, uint32_t value);

  Side side_;
  uint32_t size_max_;
  uint32_t whole_max_;
  State state_ = State::kBetween;
  char part_type_ = 0;  // of the message that goes out in parts
  uint32_t part_size_ = 0;
  uint32_t part_left_ = 0;  // bytes of it still to come
  std::string held_;
  std::string error_;
};

}  // namespace pgfresh::wire
