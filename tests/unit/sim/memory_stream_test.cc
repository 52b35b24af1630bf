// The simulation's streams keep the promises of pgfresh/stream.h, or its results mean nothing.
#include "memory_stream.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

namespace pgfresh::sim {
namespace {

struct Ear final : Stream::Events {
  std::vector<std::string> pieces;
  std::string all;
  std::string end;
  int drained = 0;

  void on_bytes(std::string_view bytes) override {
    pieces.emplace_back(bytes);
    all += bytes;
  }
  void on_drained() override { ++drained; }
  void on_end(std::string_view why) override { end = why; }
};

struct Stage {
  ManualTime time;
  ManualLoop one{time};
  ManualLoop two{time};
  MemoryPair pair = connected_pair(one, two);
  Ear first;
  Ear second;

  Stage() {
    pair.first->start(&first);
    pair.second->start(&second);
  }
  void say(MemoryStream& stream, std::string_view text) {
    const Slice slices[] = {{text, nullptr}};
    stream.write(slices);
  }
};

TEST_CASE("bytes arrive, not from inside write") {
  Stage stage;
  stage.say(*stage.pair.first, "hello ");
  stage.say(*stage.pair.first, "world");
  CHECK(stage.second.all.empty());
  stage.time.settle();
  CHECK(stage.second.all == "hello world");
  stage.say(*stage.pair.second, "ok");
  stage.time.settle();
  CHECK(stage.first.all == "ok");
}

TEST_CASE("pieces of a chosen size") {
  Stage stage;
  stage.pair.pipe->set_chunking(1, [] { return size_t{3}; });
  stage.say(*stage.pair.first, "abcdefgh");
  stage.time.settle();
  CHECK(stage.second.pieces == std::vector<std::string>{"abc", "def", "gh"});
}

TEST_CASE("a reader that pauses lets the writer's queue grow, and drains it") {
  Stage stage;
  stage.pair.pipe->set_window(1, 4);
  stage.pair.second->pause();
  stage.say(*stage.pair.first, "abcdefgh");
  stage.time.settle();
  CHECK(stage.second.all.empty());
  CHECK(stage.pair.first->queued_bytes() == 4);
  CHECK(stage.first.drained == 0);
  stage.pair.second->resume();
  stage.time.settle();
  CHECK(stage.second.all == "abcdefgh");
  CHECK(stage.pair.first->queued_bytes() == 0);
  CHECK(stage.first.drained == 1);
}

TEST_CASE("what is held arrives when it is released") {
  Stage stage;
  stage.pair.pipe->hold(1);
  stage.say(*stage.pair.first, "a");
  stage.time.advance_ms(1000);
  CHECK(stage.second.all.empty());
  CHECK(stage.pair.pipe->in_flight(1) == 1);
  stage.pair.pipe->release(1);
  stage.time.settle();
  CHECK(stage.second.all == "a");
}

TEST_CASE("the end comes behind the bytes, once") {
  Stage stage;
  stage.say(*stage.pair.first, "last words");
  stage.pair.first.reset();
  stage.time.settle();
  CHECK(stage.second.all == "last words");
  CHECK(stage.second.end == "end of stream");
  stage.second.end.clear();
  stage.time.advance_ms(10);
  CHECK(stage.second.end.empty());
  CHECK(stage.first.end.empty());
}

TEST_CASE("finish closes one direction") {
  Stage stage;
  stage.pair.first->finish();
  stage.time.settle();
  CHECK(stage.second.end == "end of stream");
  stage.say(*stage.pair.second, "still here");
  stage.time.settle();
  CHECK(stage.first.all == "still here");
  stage.pair.second.reset();
  stage.time.settle();
  CHECK(stage.first.end == "end of stream");
}

TEST_CASE("a cut loses what was under way") {
  Stage stage;
  stage.pair.pipe->hold(1);
  stage.say(*stage.pair.first, "lost");
  stage.pair.pipe->cut("connection reset by peer");
  stage.time.settle();
  CHECK(stage.second.all.empty());
  CHECK(stage.second.end == "connection reset by peer");
  CHECK(stage.first.end == "connection reset by peer");
}

TEST_CASE("another owner takes over in mid-stream") {
  Stage stage;
  Ear other;
  stage.say(*stage.pair.first, "one");
  stage.time.settle();
  stage.pair.second->start(&other);
  stage.say(*stage.pair.first, "two");
  stage.time.settle();
  CHECK(stage.second.all == "one");
  CHECK(other.all == "two");
}

}  // namespace
}  // namespace pgfresh::sim
