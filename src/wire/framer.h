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

struct Frame {
  char type = 0;
  uint32_t size = 0;       // of the whole message: type byte, length and body
  std::string_view bytes;  // kMessage: the whole message. kPart: this piece.
  bool first = false;      // of the parts: this piece begins with the header (5 bytes at least)
  bool last = false;       // of the parts

  // The body of a kMessage frame, behind type and length.
  [[nodiscard]] std::string_view body() const { return bytes.substr(5); }
};

// Which side's messages are cut: it decides the known types and what is needed whole.
enum class Side : uint8_t { kFrontend, kBackend };

class Framer {
 public:
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
  // until it is; the buffer's memory is given back when it is empty again.
  // Broken: an unknown type byte of that side, a length below 4, a size above the maximum.
  [[nodiscard]] Cut next(std::string_view& in, Frame& frame);

  // True between messages: nothing held, no part outstanding.
  [[nodiscard]] bool at_boundary() const;
  [[nodiscard]] size_t held_bytes() const { return held_.capacity(); }
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  [[nodiscard]] Cut broken(std::string why);

  Side side_;
  uint32_t message_bytes_max_;
  std::string held_;        // an incomplete message that is wanted whole
  bool held_used_ = false;  // held_ was handed out by the last call
  char part_type_ = 0;      // of the message that goes out in parts
  uint32_t part_size_ = 0;
  uint32_t part_left_ = 0;  // bytes of it still to come
  std::string error_;
};

}  // namespace pgfresh::wire
