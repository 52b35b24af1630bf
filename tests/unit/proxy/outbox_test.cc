#include "proxy/outbox.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace pgfresh::proxy {
namespace {

// Keeps what is written, slice by slice.
class SliceStream final : public Stream {
 public:
  void start(Events* /*events*/) override {}
  void flush() override {}
  void write(std::span<const Slice> slices) override {
    ++writes;
    for (const Slice& slice : slices) {
      bytes.append(slice.bytes);
      sizes.push_back(slice.bytes.size());
      owned.push_back(slice.owner != nullptr);
      if (slice.owner != nullptr) kept.push_back(*slice.owner);
    }
  }
  [[nodiscard]] size_t queued_bytes() const override { return 0; }
  void pause() override {}
  void resume() override {}
  void close_sending() override {}
  void finish() override {}
  [[nodiscard]] const std::string& peer() const override { return bytes; }
  [[nodiscard]] int peer_uid() const override { return -1; }
  [[nodiscard]] bool encrypted() const override { return false; }

  int writes = 0;
  std::string bytes;
  std::vector<size_t> sizes;
  std::vector<bool> owned;
  std::vector<SharedBytes> kept;
};

TEST_CASE("outbox: bytes that lie side by side become one slice, one write in all") {
  const std::string buffer = "onetwothree";
  const std::string_view view = buffer;
  const std::string elsewhere = "four";
  Outbox outbox;
  outbox.add(view.substr(0, 3));
  outbox.add(view.substr(3, 3));
  outbox.add(view.substr(6));
  outbox.add(elsewhere);
  outbox.add("");
  CHECK(outbox.size() == 15);
  SliceStream stream;
  CHECK(outbox.flush(stream) == 15);
  CHECK(stream.writes == 1);
  CHECK(stream.bytes == "onetwothreefour");
  CHECK(stream.sizes == std::vector<size_t>{11, 4});
  CHECK(outbox.empty());
  CHECK(outbox.flush(stream) == 0);
  CHECK(stream.writes == 1);
}

TEST_CASE("outbox: an entry's bytes are sent from where they are, and live on with their owner") {
  SliceStream stream;
  {
    const cache::EntryRef one =
        cache::Entry::make({.key = {}, .stamp = {}, .body = "description rows"});
    const cache::EntryRef two = cache::Entry::make({.key = {}, .stamp = {}, .body = " and more"});
    Outbox outbox;
    outbox.add("before ");
    outbox.add(one, one->body().substr(12));
    outbox.add(one, {});
    outbox.add(two, two->body());
    outbox.flush(stream);
    CHECK(stream.kept.size() == 2);
    CHECK(stream.kept[0].view().data() == one.bytes().view().data());
    CHECK(stream.kept[1].view().data() == two.bytes().view().data());
  }
  CHECK(stream.bytes == "before rows and more");
  CHECK(stream.owned == std::vector<bool>{false, true, true});
  CHECK(stream.kept[0].view().ends_with("description rows"));
}

TEST_CASE("outbox: forwarded bytes are not joined to an entry's") {
  const cache::EntryRef shared = cache::Entry::make({.key = {}, .stamp = {}, .body = "abcd"});
  Outbox outbox;
  outbox.add(shared, shared->body().substr(0, 2));
  outbox.add(shared->body().substr(2));
  SliceStream stream;
  outbox.flush(stream);
  CHECK(stream.bytes == "abcd");
  CHECK(stream.owned == std::vector<bool>{true, false});
}

}  // namespace
}  // namespace pgfresh::proxy
