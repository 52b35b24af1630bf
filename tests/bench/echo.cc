// The ceiling: a server that speaks just enough of PostgreSQL's protocol to be measured by pgbench
// and answers every statement with the same bytes. Plain epoll, a few threads, no PostgreSQL.
//
// Role: (1) what the kernel charges for one read and one write, to compare pgfresh's hit with;
// (2) an upstream that lets thousands of clients log in, to measure pgfresh's memory when idle.
// Invariants: one thread owns a connection after the hand-over; answers to everything that came in
// one read leave in one write.
// Not done, on purpose: TLS, passwords, errors, looking at what a statement says.
//
// usage: echo PORT THREADS [ANSWER-FILE]
// ANSWER-FILE holds RowDescription, DataRow and CommandComplete as captured from PostgreSQL.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr uint32_t kSslRequest = 80877103;
constexpr uint32_t kGssRequest = 80877104;
constexpr uint32_t kCancelRequest = 80877102;
constexpr size_t kMessageBytesMax = 1 << 20;

uint32_t read_u32(const char* at) {
  uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return ntohl(value);
}

void append_u32(std::string& out, uint32_t value) {
  const uint32_t network = htonl(value);
  out.append(reinterpret_cast<const char*>(&network), sizeof network);
}

std::string message(char type, std::string_view body) {
  std::string out(1, type);
  append_u32(out, static_cast<uint32_t>(body.size() + 4));
  out.append(body);
  return out;
}

std::string text_pair(std::string_view name, std::string_view value) {
  std::string out(name);
  out.push_back('\0');
  out.append(value);
  out.push_back('\0');
  return out;
}

// Everything the server ever says, made once.
struct Answers {
  std::string login;
  std::string description;  // RowDescription
  std::string rows;         // DataRow and CommandComplete
  std::string simple;       // all of it and ReadyForQuery
  std::string parsed = message('1', "");
  std::string bound = message('2', "");
  std::string closed = message('3', "");
  std::string no_parameters = message('t', std::string(2, '\0'));
  std::string ready = message('Z', "I");
};

std::string default_answer() {
  std::string column("one");
  column.push_back('\0');
  append_u32(column, 0);           // table
  column.append(2, '\0');          // attribute
  append_u32(column, 25);          // text
  column.append("\xff\xff", 2);    // variable length
  append_u32(column, 0xffffffff);  // no modifier
  column.append(2, '\0');          // text format
  std::string value("\0\1", 2);
  append_u32(value, 1);
  value.push_back('1');
  return message('T', std::string("\0\1", 2) + column) + message('D', value) +
         message('C', std::string("SELECT 1\0", 9));
}

Answers make_answers(const std::string& captured) {
  Answers answers;
  answers.login = message('R', std::string(4, '\0'));
  constexpr std::array<std::array<std::string_view, 2>, 11> kParameters{{
      {"application_name", ""},
      {"client_encoding", "UTF8"},
      {"DateStyle", "ISO, MDY"},
      {"integer_datetimes", "on"},
      {"IntervalStyle", "postgres"},
      {"is_superuser", "off"},
      {"server_encoding", "UTF8"},
      {"server_version", "15.0"},
      {"session_authorization", "echo"},
      {"standard_conforming_strings", "on"},
      {"TimeZone", "UTC"},
  }};
  for (const auto& [name, value] : kParameters) {
    answers.login += message('S', text_pair(name, value));
  }
  answers.login += message('K', std::string("\0\0\0\1\0\0\0\2", 8));
  answers.login += answers.ready;
  const size_t description_bytes = 1 + read_u32(captured.data() + 1);
  answers.description = captured.substr(0, description_bytes);
  answers.rows = captured.substr(description_bytes);
  answers.simple = captured + answers.ready;
  return answers;
}

class Connection {
 public:
  Connection(int fd, const Answers& answers) : fd_(fd), answers_(answers) {}
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // False when the connection is over.
  bool readable() {
    std::array<char, 16384> chunk;
    const ssize_t got = read(fd_, chunk.data(), chunk.size());
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) return false;
    std::string_view bytes(chunk.data(), static_cast<size_t>(got));
    if (!in_.empty()) {
      in_.append(bytes);
      bytes = in_;
    }
    size_t used = 0;
    while (used < bytes.size()) {
      const ptrdiff_t step = take(bytes.substr(used));
      if (step < 0) return false;
      if (step == 0) break;
      used += static_cast<size_t>(step);
    }
    in_ = std::string(bytes.substr(used));
    return flush();
  }

 private:
  // Bytes of one message taken; 0: incomplete; -1: over.
  ptrdiff_t take(std::string_view bytes) {
    const size_t prefix = started_ ? 1 : 0;
    if (bytes.size() < prefix + 4) return 0;
    const size_t length = prefix + read_u32(bytes.data() + prefix);
    if (length < prefix + 4 || length > kMessageBytesMax) return -1;
    if (bytes.size() < length) return 0;
    const bool go_on = started_ ? answer(bytes[0], bytes.substr(5, length - 5)) : start(bytes);
    return go_on ? static_cast<ptrdiff_t>(length) : -1;
  }

  bool start(std::string_view packet) {
    if (packet.size() < 8) return false;
    const uint32_t code = read_u32(packet.data() + 4);
    if (code == kCancelRequest) return false;
    if (code == kSslRequest || code == kGssRequest) {
      out_ += 'N';
      return true;
    }
    started_ = true;
    out_ += answers_.login;
    return true;
  }

  bool answer(char type, std::string_view body) {
    switch (type) {
      case 'Q':
        out_ += answers_.simple;
        return true;
      case 'P':
        out_ += answers_.parsed;
        return true;
      case 'B':
        out_ += answers_.bound;
        return true;
      case 'D':
        if (!body.empty() && body[0] == 'S') out_ += answers_.no_parameters;
        out_ += answers_.description;
        return true;
      case 'E':
        out_ += answers_.rows;
        return true;
      case 'C':
        out_ += answers_.closed;
        return true;
      case 'S':
        out_ += answers_.ready;
        return true;
      case 'H':
        return true;
      default:
        return false;
    }
  }

  // The peers here always read, so a full socket buffer is treated as a broken peer.
  bool flush() {
    if (out_.empty()) return true;
    const ssize_t sent = write(fd_, out_.data(), out_.size());
    const bool whole = sent == static_cast<ssize_t>(out_.size());
    out_.clear();
    return whole;
  }

  const int fd_;
  const Answers& answers_;
  bool started_ = false;
  std::string in_;
  std::string out_;
};

void serve(int poll_fd) {
  std::array<epoll_event, 64> events;
  for (;;) {
    const int count = epoll_wait(poll_fd, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      if (!connection->readable()) delete connection;
    }
  }
}

int listen_on(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd, 4096) != 0) {
    std::perror("echo: listen");
    std::exit(1);
  }
  return fd;
}

// Hands each new connection to the next thread in turn, so that all threads carry equal load.
[[noreturn]] void accept_forever(int listener, const std::vector<int>& polls,
                                 const Answers& answers) {
  for (size_t turn = 0;; ++turn) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) continue;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto* connection = new Connection(fd, answers);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = connection;
    if (epoll_ctl(polls[turn % polls.size()], EPOLL_CTL_ADD, fd, &event) != 0) delete connection;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: echo PORT THREADS [ANSWER-FILE]\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  std::string captured = default_answer();
  if (argc > 3) {
    std::ifstream file(argv[3], std::ios::binary);
    captured.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (captured.size() < 5 || captured[0] != 'T' || read_u32(&captured[1]) >= captured.size()) {
      std::fprintf(stderr, "echo: %s: no RowDescription in it\n", argv[3]);
      return 1;
    }
  }
  const Answers answers = make_answers(captured);
  const int listener = listen_on(static_cast<uint16_t>(std::atoi(argv[1])));
  std::vector<int> polls;
  std::vector<std::thread> threads;
  const int thread_count = std::atoi(argv[2]) > 0 ? std::atoi(argv[2]) : 1;
  for (int i = 0; i < thread_count; ++i) {
    polls.push_back(epoll_create1(EPOLL_CLOEXEC));
    threads.emplace_back(serve, polls.back());
  }
  accept_forever(listener, polls, answers);
}
