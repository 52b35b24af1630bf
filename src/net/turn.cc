#include "net/turn.h"

#include <cstring>
#include <utility>

#include "base/check.h"

namespace pgfresh::net {

// `size` bytes have been written behind those before.
void Turn::Phase::add(Member& member, size_t size) {
  Piece& last = pieces[count > 0 ? count - 1 : 0];
  if (count > 0 && last.member == &member) {
    last.bytes = {last.bytes.data(), last.bytes.size() + size};
  } else {
    pieces[count++] = {&member, {buffer.get() + filled, size}};
  }
  filled += size;
}

Turn::Turn(const Clock& clock) : clock_(clock) {
  reads_.buffer = std::make_unique_for_overwrite<char[]>(kReadBytesMax);
  sends_.buffer = std::make_unique_for_overwrite<char[]>(kSendBufferBytes);
}

std::span<char> Turn::room() {
  return {reads_.buffer.get() + reads_.filled, kReadBytesMax - reads_.filled};
}

void Turn::has_read(Member& member, size_t bytes) {
  reads_.add(member, bytes);
  if (reads_.count == kPiecesMax || room().size() < kRoomMin) hand_out();
}

void Turn::hand_out() {
  // Owners read nothing here, but may destroy streams that are still to come.
  int64_t since_ns = clock_.now_ns();
  for (Piece& piece : reads_.all()) {
    if (Member* member = std::exchange(piece.member, nullptr)) member->take_late(piece.bytes);
    if (const int64_t now_ns = clock_.now_ns(); now_ns - since_ns > kOwnersNsMax) {
      send_all();
      since_ns = now_ns;
    }
  }
  reads_.clear();
}

void Turn::put_off(Member& member, std::span<const Slice> slices, size_t size) {
  PGFRESH_CHECK(size <= kSendBytesMax);
  if (sends_.count == kPiecesMax || sends_.filled + size > kSendBufferBytes) send_all();
  char* to = sends_.buffer.get() + sends_.filled;
  for (const Slice& slice : slices) {
    if (!slice.bytes.empty()) std::memcpy(to, slice.bytes.data(), slice.bytes.size());
    to += slice.bytes.size();
  }
  sends_.add(member, size);
}

void Turn::send_all() {
  for (Piece& piece : sends_.all()) {
    if (Member* member = std::exchange(piece.member, nullptr)) member->send_late(piece.bytes);
  }
  sends_.clear();
}

void Turn::send_of(Member& member) {
  for (Piece& piece : sends_.all()) {
    if (piece.member == &member) std::exchange(piece.member, nullptr)->send_late(piece.bytes);
  }
}

void Turn::forget(Member& member) {
  for (Phase* phase : {&reads_, &sends_}) {
    for (Piece& piece : phase->all()) {
      if (piece.member == &member) piece.member = nullptr;
    }
  }
}

}  // namespace pgfresh::net
