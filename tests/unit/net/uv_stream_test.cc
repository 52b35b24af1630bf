#include <doctest/doctest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "net_fixture.h"

#ifdef __SANITIZE_ADDRESS__  // gcc
#define PGFRESH_WITH_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // clang
#define PGFRESH_WITH_ASAN
#endif
#endif

namespace pgfresh::net {
namespace {

size_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  unsigned long total = 0;
  unsigned long resident = 0;
  REQUIRE(std::fscanf(file, "%lu %lu", &total, &resident) == 2);
  std::fclose(file);
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

std::string read_all(int fd) {
  std::string result;
  char buffer[65536];
  ssize_t count = 0;
  while ((count = ::read(fd, buffer, sizeof buffer)) > 0) {
    result.append(buffer, static_cast<size_t>(count));
  }
  return result;
}

}  // namespace

TEST_CASE("bytes go both ways, over TCP and unix sockets") {
  for (const SocketKind kind : {SocketKind::kTcp, SocketKind::kUnix}) {
    UvLoop loop;
    FdPair pair = kind == SocketKind::kTcp ? tcp_pair() : unix_pair();
    Recorder near;
    Recorder far;
    auto a = adopt(loop, pair.near, kind);
    auto b = adopt(loop, pair.far, kind);
    a->start(&near);
    b->start(&far);
    const Slice slices[] = {{"one ", nullptr}, {"", nullptr}, {"two", nullptr}};
    a->write(slices);
    CHECK(a->queued_bytes() == 0);
    CHECK(turn_until(loop, [&] { return far.bytes == "one two"; }));
    put(*b, "three");
    CHECK(turn_until(loop, [&] { return near.bytes == "three"; }));
    CHECK_FALSE(a->encrypted());
    if (kind == SocketKind::kUnix) {
      CHECK(a->peer() == "unix");
      CHECK(a->peer_uid() == static_cast<int>(::getuid()));
    } else {
      CHECK(a->peer().substr(0, 10) == "127.0.0.1:");
      CHECK(a->peer_uid() == -1);
    }
    b.reset();
    CHECK(turn_until(loop, [&] { return near.ends == 1; }));
    CHECK(near.why == "end of stream");
    turn_for(loop, 10);
    CHECK(near.ends == 1);
  }
}

TEST_CASE("the state of an idle connection is small") {
  MESSAGE("one idle connection: " << UvStream::idle_bytes() << " bytes");
  CHECK(UvStream::idle_bytes() < 1536);
}

TEST_CASE("what the kernel does not take is queued: owners by reference, others by copy") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  const std::string filler(4 * 1024 * 1024, 'f');
  put(*stream, filler);
  CHECK(stream->queued_bytes() > 0);
  const size_t before = stream->queued_bytes();
  {
    const SharedBytes shared = SharedBytes::copy_of("shared");
    std::string a = "copied ";
    std::string b = "twice ";
    const Slice slices[] = {{a, nullptr}, {b, nullptr}, {shared.view(), &shared}, {"!", nullptr}};
    stream->write(slices);
    a = "XXXXXXX";
    b = "YYYYYY";
  }
  CHECK(stream->queued_bytes() == before + 20);
  std::string received;
  std::thread reader([&] { received = read_all(pair.far.get()); });
  CHECK(turn_until(loop, [&] { return near.drained == 1; }));
  CHECK(stream->queued_bytes() == 0);
  stream.reset();
  reader.join();
  CHECK(received == filler + "copied twice shared!");
}

TEST_CASE("more slices than one system call takes arrive in order") {
  UvLoop loop;
  FdPair pair = unix_pair();
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  std::vector<std::string> pieces;
  for (int i = 0; i < 200; ++i) pieces.push_back(std::to_string(i) + ",");
  std::vector<Slice> slices;
  std::string expected;
  for (const std::string& piece : pieces) {
    slices.push_back({piece, nullptr});
    expected += piece;
  }
  stream->write(slices);
  stream.reset();
  CHECK(read_all(pair.far.get()) == expected);
}

TEST_CASE("a partly sent run of slices is queued from the first unsent byte") {
  UvLoop loop;
  FdPair pair = unix_pair();
  const int small = 4096;
  ::setsockopt(pair.near.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  std::string expected;
  std::vector<std::string> pieces;
  for (int i = 0; i < 300; ++i) pieces.emplace_back(static_cast<size_t>(100 + i), 'a' + i % 26);
  std::vector<SharedBytes> owners(pieces.size());
  std::vector<Slice> slices;
  for (size_t i = 0; i < pieces.size(); ++i) {
    expected += pieces[i];
    if (i % 3 == 0) {
      owners[i] = SharedBytes::copy_of(pieces[i]);
      slices.push_back({owners[i].view(), &owners[i]});
    } else {
      slices.push_back({pieces[i], nullptr});
    }
  }
  stream->write(slices);
  CHECK(stream->queued_bytes() > 0);
  pieces.clear();
  owners.clear();
  std::string received;
  std::thread reader([&] { received = read_all(pair.far.get()); });
  CHECK(turn_until(loop, [&] { return near.drained == 1; }));
  stream.reset();
  reader.join();
  CHECK(received == expected);
}

TEST_CASE("a write from inside on_bytes of another stream: a proxy in miniature") {
  UvLoop loop;
  FdPair client = tcp_pair();
  FdPair server = unix_pair();
  Recorder from_client;
  Recorder from_server;
  auto left = adopt(loop, client.far, SocketKind::kTcp);
  auto right = adopt(loop, server.near, SocketKind::kUnix);
  from_client.then = [&](std::string_view bytes) { put(*right, bytes); };
  from_server.then = [&](std::string_view bytes) { put(*left, bytes); };
  left->start(&from_client);
  right->start(&from_server);
  REQUIRE(::write(client.near.get(), "ping", 4) == 4);
  turn_for(loop, 20);
  char buffer[16] = {};
  CHECK(::read(server.far.get(), buffer, sizeof buffer) == 4);
  REQUIRE(::write(server.far.get(), "pong!", 5) == 5);
  turn_for(loop, 20);
  CHECK(::read(client.near.get(), buffer, sizeof buffer) == 5);
}

TEST_CASE("100 MB through two streams and a slow reader need bounded memory") {
  constexpr size_t kTotal = 100UL * 1024 * 1024;
  constexpr size_t kHigh = 256UL * 1024;
  UvLoop loop;
  FdPair in = unix_pair();
  FdPair out = unix_pair();
  struct Pump final : Stream::Events {
    Stream* from = nullptr;
    Stream* to = nullptr;
    size_t moved = 0;
    size_t queued_max = 0;
    std::atomic<int> pauses = 0;  // the reader waits for the first
    bool ended = false;
    void on_bytes(std::string_view bytes) override {
      moved += bytes.size();
      put(*to, bytes);
      queued_max = std::max(queued_max, to->queued_bytes());
      if (to->queued_bytes() > kHigh) {
        from->pause();
        ++pauses;
      }
    }
    void on_drained() override {}
    void on_end(std::string_view) override { ended = true; }
  } pump;
  struct Sink final : Stream::Events {
    Stream* resumed = nullptr;
    void on_bytes(std::string_view) override {}
    void on_drained() override { resumed->resume(); }
    void on_end(std::string_view) override {}
  } sink;
  auto source = adopt(loop, in.far, SocketKind::kUnix);
  auto target = adopt(loop, out.near, SocketKind::kUnix);
  pump.from = source.get();
  pump.to = target.get();
  sink.resumed = source.get();

  std::thread writer([fd = in.near.release()] {
    std::string block(1024 * 1024, '\0');
    for (size_t sent = 0; sent < kTotal;) {
      for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>((sent + i) % 251);
      size_t done = 0;
      while (done < block.size()) {
        const ssize_t count = ::write(fd, block.data() + done, block.size() - done);
        if (count <= 0) break;
        done += static_cast<size_t>(count);
      }
      sent += done;
    }
    ::close(fd);
  });
  size_t received = 0;
  bool right = true;
  std::thread reader([&, fd = out.far.get()] {
    // However slow the writer is, under ThreadSanitizer for instance: it gets ahead once.
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (pump.pauses == 0 && std::chrono::steady_clock::now() < patience) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    char buffer[32768];
    ssize_t count = 0;
    while ((count = ::read(fd, buffer, sizeof buffer)) > 0) {
      for (ssize_t i = 0; i < count; i += 97) {
        right = right && buffer[i] == static_cast<char>((received + static_cast<size_t>(i)) % 251);
      }
      received += static_cast<size_t>(count);
      if (received % (1024 * 1024) < 32768) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
  });
  const size_t before = resident_bytes();
  source->start(&pump);
  target->start(&sink);
  CHECK(turn_until(
      loop, [&] { return pump.ended && target->queued_bytes() == 0; }, 60'000));
  target.reset();
  writer.join();
  reader.join();
  CHECK(received == kTotal);
  CHECK(right);
  CHECK(pump.pauses > 0);
  CHECK(pump.queued_max <= kHigh + Turn::kReadBytesMax);
#ifndef PGFRESH_WITH_ASAN  // which keeps freed memory in quarantine
  CHECK(resident_bytes() < before + 16UL * 1024 * 1024);
#endif
}

TEST_CASE("pause stops the bytes and resume brings them") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  stream->pause();
  REQUIRE(::write(pair.far.get(), "later", 5) == 5);
  turn_for(loop, 20);
  CHECK(near.bytes.empty());
  stream->resume();
  CHECK(turn_until(loop, [&] { return near.bytes == "later"; }));
}

TEST_CASE("what was put off goes in front of what is sent at once, and out when it is asked for") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  put(*stream, "first");
  CHECK(unread_bytes(pair.far.get()) == 0);
  put(*stream, std::string(3000, 'x'));
  CHECK(unread_bytes(pair.far.get()) == 3005);
  put(*stream, "then");
  stream->flush();
  CHECK(unread_bytes(pair.far.get()) == 3009);
  put(*stream, "last");
  stream->close_sending();
  CHECK(read_all(pair.far.get()) == "first" + std::string(3000, 'x') + "thenlast");
  FdPair other = unix_pair();
  auto gone = adopt(loop, other.near, SocketKind::kUnix);
  gone->start(&near);
  put(*gone, "farewell");
  gone.reset();
  CHECK(read_all(other.far.get()) == "farewell");
}

TEST_CASE("start() again hands the stream to another owner") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder first;
  Recorder second;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  first.then = [&](std::string_view) { stream->start(&second); };
  stream->start(&first);
  REQUIRE(::write(pair.far.get(), "a", 1) == 1);
  turn_for(loop, 10);
  REQUIRE(::write(pair.far.get(), "b", 1) == 1);
  CHECK(turn_until(loop, [&] { return second.bytes == "b"; }));
}

TEST_CASE("finish drains, closes the sending side, and ends when the peer does") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  const std::string much(2 * 1024 * 1024, 'x');
  put(*stream, much);
  stream->finish();
  put(*stream, "not sent any more");
  CHECK(near.ends == 0);
  std::string received;
  std::thread reader([&] {
    received = read_all(pair.far.get());
    pair.far.reset();
  });
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  reader.join();
  CHECK(received == much);
  CHECK(near.why == "end of stream");
}

TEST_CASE("finish sends what is queued to a peer that closes its own sending side meanwhile") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  const std::string much(2 * 1024 * 1024, 'x');
  put(*stream, much);
  stream->finish();
  REQUIRE(::shutdown(pair.far.get(), SHUT_WR) == 0);
  turn_for(loop, 10);
  CHECK(near.ends == 0);
  std::string received;
  std::thread reader([&] { received = read_all(pair.far.get()); });
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  reader.join();
  CHECK(received == much);
}

TEST_CASE("a peer that has said all is answered, where its owner stays") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  near.stays = true;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  REQUIRE(::write(pair.far.get(), "query", 5) == 5);
  REQUIRE(::shutdown(pair.far.get(), SHUT_WR) == 0);
  CHECK(turn_until(loop, [&] { return near.half_closes == 1; }));
  CHECK(near.bytes == "query");
  stream->pause();
  stream->resume();
  turn_for(loop, 20);
  CHECK(near.ends == 0);
  const std::string much(2 * 1024 * 1024, 'x');
  std::string received;
  std::thread reader([&] { received = read_all(pair.far.get()); });
  put(*stream, much);
  stream->finish();
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  reader.join();
  CHECK(received == much);
  CHECK(near.half_closes == 1);
  CHECK(near.why == "end of stream");
}

TEST_CASE("a stream that has closed its sending side is told what the peer still says") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  const std::string much(2 * 1024 * 1024, 'x');
  put(*stream, much);
  stream->close_sending();
  put(*stream, "not sent any more");
  std::thread peer([&] {
    CHECK(read_all(pair.far.get()) == much);
    CHECK(::write(pair.far.get(), "answer", 6) == 6);
    pair.far.reset();
  });
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  peer.join();
  CHECK(near.bytes == "answer");
}

TEST_CASE("a write to a peer that has gone: its last words first, then the end, once") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  REQUIRE(::write(pair.far.get(), "FATAL", 5) == 5);
  pair.far.reset();
  put(*stream, "query");
  CHECK(near.ends == 0);  // never from inside write()
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  CHECK(near.bytes == "FATAL");
  put(*stream, "more");
  turn_for(loop, 300);
  CHECK(near.ends == 1);
}

TEST_CASE("a connection that is reset: what came before it first, then its name, once") {
  for (const bool waiting : {false, true}) {
    UvLoop loop;
    FdPair pair = tcp_pair();
    Recorder near;
    auto stream = adopt(loop, pair.near, SocketKind::kTcp);
    if (waiting) put(*stream, std::string(16 * 1024 * 1024, 'x'));
    CHECK((stream->queued_bytes() > 0) == waiting);
    REQUIRE(::write(pair.far.get(), "FATAL", 5) == 5);
    const linger at_once{1, 0};
    ::setsockopt(pair.far.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    pair.far.reset();
    stream->start(&near);
    CHECK(turn_until(loop, [&] { return near.ends == 1; }));
    CHECK(near.bytes == "FATAL");
    CHECK(near.why == "connection reset by peer");
    CHECK(stream->queued_bytes() == 0);
    turn_for(loop, 20);
    CHECK(near.ends == 1);
  }
}

TEST_CASE("a queue that never runs empty keeps its order") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  ::fcntl(pair.far.get(), F_SETFL, O_NONBLOCK);
  std::string sent(1024 * 1024, 'x');
  put(*stream, sent);
  std::string received;
  std::string buffer(4096, '\0');
  const auto tick = loop.every(1, [] {});  // so that no turn waits for room
  for (size_t i = 0; sent.size() < 4UL * 1024 * 1024; ++i) {
    const SharedBytes piece =
        SharedBytes::copy_of(std::string(100 + i % 900, static_cast<char>('a' + i % 26)));
    sent += piece.view();
    const Slice slice{piece.view(), &piece};
    stream->write({&slice, 1});
    if (i % 16 != 0) continue;
    loop.turn();
    const ssize_t got = ::read(pair.far.get(), buffer.data(), buffer.size());
    if (got > 0) received.append(buffer, 0, static_cast<size_t>(got));
  }
  CHECK(stream->queued_bytes() > 0);
  CHECK(near.drained == 0);
  ::fcntl(pair.far.get(), F_SETFL, 0);
  std::thread reader([&] { received += read_all(pair.far.get()); });
  CHECK(turn_until(loop, [&] { return near.drained == 1; }));
  stream.reset();
  reader.join();
  CHECK(received == sent);
}

TEST_CASE("a paused stream whose write fails still ends") {
  UvLoop loop;
  FdPair pair = unix_pair();
  Recorder near;
  auto stream = adopt(loop, pair.near, SocketKind::kUnix);
  stream->start(&near);
  stream->pause();
  pair.far.reset();
  put(*stream, "query");
  CHECK(turn_until(loop, [&] { return near.ends == 1; }));
  CHECK(near.why == "broken pipe");
}

TEST_CASE("a stream may be destroyed in every state, and nothing comes afterwards") {
  Recorder near;
  {
    UvLoop loop;
    FdPair never_started = unix_pair();
    auto a = adopt(loop, never_started.near, SocketKind::kUnix);
    FdPair writing = unix_pair();
    auto b = adopt(loop, writing.near, SocketKind::kUnix);
    b->start(&near);
    put(*b, std::string(4 * 1024 * 1024, 'x'));
    put(*b, std::string(100, 'x'));
    FdPair finishing = unix_pair();
    auto c = adopt(loop, finishing.near, SocketKind::kUnix);
    c->start(&near);
    put(*c, std::string(4 * 1024 * 1024, 'x'));
    c->finish();
    FdPair broken = unix_pair();
    auto d = adopt(loop, broken.near, SocketKind::kUnix);
    d->start(&near);
    broken.far.reset();
    put(*d, "x");
    sockaddr_in nowhere{};
    nowhere.sin_family = AF_INET;
    nowhere.sin_port = htons(1);
    nowhere.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto e = UvStream::connect_tcp(loop, reinterpret_cast<const sockaddr&>(nowhere),
                                   [](int) { FAIL("abandoned"); });
    auto f = UvStream::connect_unix(loop, "/nonexistent/socket", [](int) { FAIL("abandoned"); });
    a.reset();
    b.reset();
    c.reset();
    d.reset();
    e.reset();
    f.reset();
    turn_for(loop, 20);
    FdPair last = unix_pair();
    auto g = adopt(loop, last.near, SocketKind::kUnix);
    g->start(&near);
    put(*g, std::string(4 * 1024 * 1024, 'x'));
    loop.defer([kept = std::shared_ptr<UvStream>(std::move(g))] {});
  }
  CHECK(near.ends == 0);
  CHECK(near.drained == 0);
  CHECK(near.bytes.empty());
}

TEST_CASE("connecting tells success and failure") {
  UvLoop loop;
  uint16_t port = 0;
  UniqueFd listener = loopback_listener(port);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int status = 1;
  auto good = UvStream::connect_tcp(loop, reinterpret_cast<const sockaddr&>(address),
                                    [&](int result) { status = result; });
  CHECK(turn_until(loop, [&] { return status != 1; }));
  CHECK(status == 0);
  CHECK(good->peer() == "127.0.0.1:" + std::to_string(port));
  listener.reset();
  status = 1;
  auto bad = UvStream::connect_tcp(loop, reinterpret_cast<const sockaddr&>(address),
                                   [&](int result) { status = result; });
  CHECK(turn_until(loop, [&] { return status != 1; }));
  CHECK(status == UV_ECONNREFUSED);
  turn_for(loop, 20);  // nobody has destroyed it
  status = 1;
  auto lost =
      UvStream::connect_unix(loop, "/nonexistent/socket", [&](int result) { status = result; });
  CHECK(status == 1);  // never from inside connect_unix()
  CHECK(turn_until(loop, [&] { return status != 1; }));
  CHECK(status == UV_ENOENT);
}

}  // namespace pgfresh::net
