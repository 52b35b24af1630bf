#include "net/listener.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "net_fixture.h"

namespace pgfresh::net {
namespace {

uint16_t port_of(const std::string& address) {
  return static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

struct TemporaryDirectory {
  std::string path;
  TemporaryDirectory() {
    char name[] = "/tmp/pgfresh-test-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~TemporaryDirectory() { ::rmdir(path.c_str()); }
};

bool connects(const std::string& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

}  // namespace

TEST_CASE("clients are dealt to the workers in turn, each on its own thread") {
  UvLoop control;
  UvLoop one;
  UvLoop two;
  std::mutex mutex;
  std::map<UvLoop*, std::set<std::thread::id>> threads;
  std::map<UvLoop*, int> counts;
  std::atomic<int> total = 0;
  Listener listener(control, {&one, &two}, [&](UvLoop& worker, int fd, SocketKind kind) {
    const std::lock_guard lock(mutex);
    ::close(fd);
    CHECK(kind == SocketKind::kTcp);
    threads[&worker].insert(std::this_thread::get_id());
    ++counts[&worker];
    ++total;
  });
  REQUIRE(listener.listen_tcp("127.0.0.1:0") == "");
  REQUIRE(listener.addresses().size() == 1);
  std::thread first([&] { one.run(); });
  std::thread second([&] { two.run(); });
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(connect_loopback(port_of(listener.addresses()[0])));
  }
  CHECK(turn_until(control, [&] { return total == 10; }));
  one.stop();
  two.stop();
  first.join();
  second.join();
  CHECK(counts[&one] == 5);
  CHECK(counts[&two] == 5);
  CHECK(threads[&one].size() == 1);
  CHECK(threads[&one] != threads[&two]);
  CHECK(listener.accepted() == 10);
}

TEST_CASE("a client accepted for a worker that has stopped is closed") {
  UvLoop control;
  UvLoop worker;
  worker.stop();
  worker.run();
  Listener listener(control, {&worker}, [](UvLoop&, int, SocketKind) { FAIL("not running"); });
  REQUIRE(listener.listen_tcp("127.0.0.1:0") == "");
  UniqueFd client = connect_loopback(port_of(listener.addresses()[0]));
  CHECK(turn_until(control, [&] { return listener.accepted() == 1; }));
  char byte = 0;
  CHECK(::read(client.get(), &byte, 1) == 0);
}

TEST_CASE("a unix socket: name, mode, stale file, living owner") {
  const TemporaryDirectory directory;
  const std::string path = directory.path + "/.s.PGSQL.6543";
  UvLoop control;
  int accepted = 0;
  const auto count = [&](UvLoop&, int fd, SocketKind kind) {
    CHECK(kind == SocketKind::kUnix);
    ::close(fd);
    ++accepted;
  };
  {
    // A socket file whose process has died.
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  {
    Listener listener(control, {&control}, count);
    REQUIRE(listener.listen_unix(directory.path, 6543) == "");
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0777);
    CHECK(connects(path));
    CHECK(turn_until(control, [&] { return accepted == 1; }));

    Listener second(control, {&control}, count);
    CHECK(second.listen_unix(directory.path, 6543) ==
          "cannot listen on " + path + ": another process answers there");
  }
  CHECK(::access(path.c_str(), F_OK) != 0);
}

TEST_CASE("no descriptors left: the listener pauses and comes back") {
  UvLoop control;
  std::vector<UniqueFd> accepted;
  Listener listener(control, {&control},
                    [&](UvLoop&, int fd, SocketKind) { accepted.emplace_back(fd); });
  REQUIRE(listener.listen_tcp("127.0.0.1:0") == "");
  UniqueFd client = connect_loopback(port_of(listener.addresses()[0]));
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  rlimit none = old;
  none.rlim_cur = 3;
  ::setrlimit(RLIMIT_NOFILE, &none);
  const bool paused = turn_until(control, [&] { return listener.pauses() > 0; });
  ::setrlimit(RLIMIT_NOFILE, &old);
  CHECK(paused);
  CHECK(accepted.empty());
  CHECK(turn_until(control, [&] { return accepted.size() == 1; }));
}

TEST_CASE("addresses that cannot be listened on are refused with a reason") {
  UvLoop control;
  Listener listener(control, {&control}, [](UvLoop&, int, SocketKind) {});
  CHECK(listener.listen_tcp("127.0.0.1") ==
        "cannot listen on \"127.0.0.1\": HOST:PORT, [IPV6]:PORT or *:PORT is wanted");
  CHECK(listener.listen_tcp(":0") != "");  // every address is "*:0", said on purpose
  CHECK(listener.listen_tcp("::1:6543") != "");
  CHECK(listener.listen_tcp("127.0.0.1:70000") != "");
  CHECK(listener.listen_tcp("192.0.2.1:0").find("Cannot assign requested address") !=
        std::string::npos);
  CHECK(listener.listen_unix("/nonexistent", 1).find("No such file") != std::string::npos);
  CHECK(listener.listen_unix(std::string(200, 'd'), 1).find("too long") != std::string::npos);
  CHECK(listener.listen_inherited(::open("/dev/null", O_RDONLY)) != "");
  CHECK(listener.addresses().empty());
}

TEST_CASE("an inherited socket is served") {
  UvLoop control;
  uint16_t port = 0;
  UniqueFd made = loopback_listener(port);
  int accepted = 0;
  Listener listener(control, {&control}, [&](UvLoop&, int fd, SocketKind) {
    ::close(fd);
    ++accepted;
  });
  REQUIRE(listener.listen_inherited(made.release()) == "");
  const UniqueFd client = connect_loopback(port);
  CHECK(turn_until(control, [&] { return accepted == 1; }));
}

}  // namespace pgfresh::net
