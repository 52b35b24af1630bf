// A connected pair of streams in memory. What one side writes arrives at the other as on_bytes,
// through the other's loop; the two may live on different ManualLoops of one ManualTime.
//
// The test says how the bytes travel: in pieces of how many, how much the "kernel" takes before a
// writer's bytes queue up, whether they travel at all (hold), and it may cut the connection.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "manual_loop.h"
#include "pgfresh/stream.h"

namespace pgfresh::sim {

class MemoryPipe;

// One side. Made by connected_pair() only.
class MemoryStream final : public Stream {
 public:
  MemoryStream(std::shared_ptr<MemoryPipe> pipe, size_t side);
  ~MemoryStream() override;
  MemoryStream(const MemoryStream&) = delete;
  MemoryStream& operator=(const MemoryStream&) = delete;

  void start(Events* events) override;
  void flush() override {}
  void write(std::span<const Slice> slices) override;
  [[nodiscard]] size_t queued_bytes() const override;
  void pause() override;
  void resume() override;
  void close_sending() override;
  void finish() override;
  [[nodiscard]] const std::string& peer() const override { return peer_; }
  [[nodiscard]] int peer_uid() const override { return -1; }
  [[nodiscard]] bool encrypted() const override { return false; }

 private:
  const std::shared_ptr<MemoryPipe> pipe_;
  const size_t side_;
  const std::string peer_;
};

// The wires between the two sides, for the test to pull. Side 0 is the first stream of the pair.
class MemoryPipe final : public std::enable_shared_from_this<MemoryPipe> {
 public:
  MemoryPipe(Loop& first, Loop& second) {
    ends_[0].loop = &first;
    ends_[1].loop = &second;
  }

  // Bytes towards `side` arrive in pieces of what `size` returns, at least one.
  void set_chunking(size_t side, std::function<size_t()> size) {
    ends_[side].chunk = std::move(size);
  }
  // The kernel's buffers on the way to `side`: what is beyond counts as queued_bytes() over there.
  void set_window(size_t side, size_t bytes) { ends_[side].window = bytes; }
  // Nothing arrives at `side` until it is released.
  void hold(size_t side) { ends_[side].held = true; }
  void release(size_t side);
  // Both sides get on_end with this reason; what is under way is lost.
  void cut(std::string_view why);
  // Bytes that were written towards `side` and have not arrived.
  [[nodiscard]] size_t in_flight(size_t side) const { return ends_[side].wire.size(); }

 private:
  friend class MemoryStream;
  struct End {
    Loop* loop = nullptr;
    Stream::Events* events = nullptr;
    bool alive = true;  // the stream object exists
    bool paused = false;
    bool held = false;
    bool finished = false;     // this side has closed its sending half
    bool ended = false;        // on_end has been told
    bool half_closed = false;  // the other side has said all; on_end waits for finish()
    bool blocked = false;      // a write could not be sent whole; on_drained is owed
    bool scheduled = false;    // a delivery is posted
    std::string wire;          // bytes on their way to this side
    std::string cut_reason;    // not empty: the connection is cut
    size_t window = SIZE_MAX;
    std::function<size_t()> chunk;
  };

  void schedule(size_t side);
  void deliver(size_t side);
  void tell_drained(size_t side);
  [[nodiscard]] bool deliverable(const End& end, const End& sender) const;
  void end_of(size_t side, std::string_view why);

  End ends_[2];
};

struct MemoryPair {
  std::unique_ptr<MemoryStream> first;
  std::unique_ptr<MemoryStream> second;
  std::shared_ptr<MemoryPipe> pipe;
};
[[nodiscard]] MemoryPair connected_pair(Loop& first, Loop& second);

}  // namespace pgfresh::sim
