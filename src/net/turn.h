// What the streams of a loop have read in this turn, and what they have to send at its end.
//
// Where there is much to do, a turn finds several sockets readable. To read, think and send for one
// after the other has the kernel's code for reading, ours, and the kernel's for sending push each
// other out of the processor's caches every few microseconds. So a turn has three phases: all is
// read, all is handed to its owners, all is sent; with 16 clients a miss costs an eighth less so.
// Nobody waits long for the others' phases: pieces are few and small, what is larger is handed out
// or sent at once, behind what came before it, and when owners take their time (a handshake, a new
// text) what they have put off is sent in between. Where a turn finds one socket nothing changes.
//
// What a hit answers is judged when the question is handed out. If the process is frozen right
// then, the answer goes out when it wakes, like one that waited for room in a socket: its client
// has been waiting all the while, and it was true behind the question.
//
// Loop thread only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "pgfresh/clock.h"
#include "pgfresh/stream.h"

namespace pgfresh::net {

class Turn {
 public:
  // A stream. Both are called once for each piece, in order.
  class Member {
   public:
    // What was read for it; valid during the call. Its owner is called.
    virtual void take_late(std::string_view bytes) = 0;
    // Sends what was put off, or queues it. Calls nobody back.
    virtual void send_late(std::string_view bytes) = 0;

   protected:
    ~Member() = default;
  };

  static constexpr size_t kReadBytesMax = 64 * 1024;  // of one read
  // A hit is one row and a ReadyForQuery, as a rule. What is larger is sent from where it is.
  static constexpr size_t kSendBytesMax = 1024;

  explicit Turn(const Clock& clock);

  // Where to read to. has_read() may hand out all that was read.
  [[nodiscard]] std::span<char> room();
  void has_read(Member& member, size_t bytes);
  void hand_out();

  // Copies the slices, `size` bytes together; what was put off before may be sent.
  // REQUIRES: size <= kSendBytesMax.
  void put_off(Member& member, std::span<const Slice> slices, size_t size);
  void send_all();
  void send_of(Member& member);

  // What was read for it is nobody's, and nothing is sent.
  void forget(Member& member);

 private:
  static constexpr size_t kPiecesMax = 16;  // of each kind
  static constexpr size_t kRoomMin = 16 * 1024;
  static constexpr int64_t kOwnersNsMax = 300'000;
  static constexpr size_t kSendBufferBytes = kPiecesMax * kSendBytesMax;

  struct Piece {
    Member* member = nullptr;  // null: done with
    std::string_view bytes;    // in the buffer
  };
  struct Phase {
    std::array<Piece, kPiecesMax> pieces;
    size_t count = 0;
    size_t filled = 0;  // bytes of the buffer
    std::unique_ptr<char[]> buffer;

    [[nodiscard]] std::span<Piece> all() { return {pieces.data(), count}; }
    void add(Member& member, size_t size);
    void clear() { count = filled = 0; }
  };

  const Clock& clock_;
  Phase reads_;
  Phase sends_;
};

}  // namespace pgfresh::net
