// Deliveries are posted tasks, one piece each, so that anything may happen between two pieces.
// Closing: a stream that is destroyed ends the other side after the bytes it had sent; finish()
// does the same for one direction, and a side whose both directions have ended is told so.
#include "memory_stream.h"

#include <algorithm>
#include <cstdint>

namespace pgfresh::sim {
namespace {

constexpr std::string_view kEndOfStream = "end of stream";

}  // namespace

MemoryPair connected_pair(Loop& first, Loop& second) {
  MemoryPair pair;
  pair.pipe = std::make_shared<MemoryPipe>(first, second);
  pair.first = std::make_unique<MemoryStream>(pair.pipe, 0);
  pair.second = std::make_unique<MemoryStream>(pair.pipe, 1);
  return pair;
}

// ---- a side ----

MemoryStream::MemoryStream(std::shared_ptr<MemoryPipe> pipe, size_t side)
    : pipe_(std::move(pipe)), side_(side), peer_("memory:" + std::to_string(side)) {}

MemoryStream::~MemoryStream() {
  MemoryPipe::End& end = pipe_->ends_[side_];
  end.alive = false;
  end.events = nullptr;
  end.wire.clear();
  finish();
  if (pipe_->ends_[1 - side_].blocked) pipe_->tell_drained(1 - side_);
}

void MemoryStream::start(Events* events) {
  pipe_->ends_[side_].events = events;
  pipe_->schedule(side_);
}

void MemoryStream::write(std::span<const Slice> slices) {
  MemoryPipe::End& self = pipe_->ends_[side_];
  MemoryPipe::End& peer = pipe_->ends_[1 - side_];
  if (self.finished || !self.cut_reason.empty() || !peer.alive) return;
  for (const Slice& slice : slices) peer.wire.append(slice.bytes);
  if (peer.wire.size() > peer.window) self.blocked = true;
  pipe_->schedule(1 - side_);
}

size_t MemoryStream::queued_bytes() const {
  const MemoryPipe::End& peer = pipe_->ends_[1 - side_];
  return peer.wire.size() > peer.window ? peer.wire.size() - peer.window : 0;
}

void MemoryStream::pause() { pipe_->ends_[side_].paused = true; }

void MemoryStream::resume() {
  pipe_->ends_[side_].paused = false;
  pipe_->schedule(side_);
}

void MemoryStream::close_sending() {
  pipe_->ends_[side_].finished = true;
  pipe_->schedule(1 - side_);
}

void MemoryStream::finish() {
  close_sending();
  pipe_->schedule(side_);  // where the other side has said all, this is the end
}

// ---- the wires ----

void MemoryPipe::release(size_t side) {
  ends_[side].held = false;
  schedule(side);
}

void MemoryPipe::cut(std::string_view why) {
  for (size_t side = 0; side < 2; ++side) {
    ends_[side].wire.clear();
    ends_[side].cut_reason = why;
    schedule(side);
  }
}

// Whether a delivery to `end` would do something now.
bool MemoryPipe::deliverable(const End& end, const End& sender) const {
  if (!end.alive || end.events == nullptr || end.ended) return false;
  if (!end.cut_reason.empty()) return true;
  if (end.held) return false;
  if (!end.wire.empty()) return !end.paused;
  return sender.finished && (!end.half_closed || end.finished);
}

void MemoryPipe::schedule(size_t side) {
  End& end = ends_[side];
  if (end.scheduled || !deliverable(end, ends_[1 - side])) return;
  end.scheduled = true;
  end.loop->post([self = shared_from_this(), side] { self->deliver(side); });
}

void MemoryPipe::deliver(size_t side) {
  End& end = ends_[side];
  end.scheduled = false;
  if (!deliverable(end, ends_[1 - side])) return;
  if (!end.cut_reason.empty()) {
    end_of(side, end.cut_reason);
    return;
  }
  if (end.wire.empty()) {
    if (!end.finished && !end.half_closed) {
      end.half_closed = true;
      if (end.events->on_half_close()) return;
    }
    end_of(side, kEndOfStream);
    return;
  }
  const size_t wanted = end.chunk ? std::max<size_t>(end.chunk(), 1) : end.wire.size();
  const std::string piece = end.wire.substr(0, wanted);
  end.wire.erase(0, piece.size());
  if (ends_[1 - side].blocked && end.wire.size() <= end.window) tell_drained(1 - side);
  end.events->on_bytes(piece);
  schedule(side);
}

void MemoryPipe::tell_drained(size_t side) {
  ends_[side].blocked = false;
  ends_[side].loop->post([self = shared_from_this(), side] {
    End& end = self->ends_[side];
    if (end.alive && !end.ended && end.events != nullptr) end.events->on_drained();
  });
}

void MemoryPipe::end_of(size_t side, std::string_view why) {
  ends_[side].ended = true;
  const std::string reason(why);
  ends_[side].events->on_end(reason);
}

}  // namespace pgfresh::sim
