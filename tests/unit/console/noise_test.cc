// Messages in any order, cut and garbled, with a backend that answers late, fails, or outlives the
// session. What comes back must be whole messages; the sanitizers watch the rest.
#include <doctest/doctest.h>

#include <random>

#include "fakes.h"

namespace pgfresh::console::testing {
namespace {

constexpr std::string_view kTexts[] = {"SHOW STATS",
                                       "BEGIN",
                                       "COMMIT",
                                       "ROLLBACK",
                                       "FLUSH",
                                       "SELECT 1",
                                       "DISCARD ALL",
                                       "DEALLOCATE a",
                                       "SHOW CONFIG; SELECT 'x', version(); RELOAD",
                                       "NOPE",
                                       "SET application_name = 'x'",
                                       "RESET ALL",
                                       "SHOW HELP",
                                       "KILL $1",
                                       "",
                                       "SET client_encoding TO 'x'",
                                       "SAVEPOINT a",
                                       "ROLLBACK TO a",
                                       "'"};
constexpr std::string_view kNames[] = {"", "a", "b"};
constexpr std::string_view kTypes = "HFdcfQPBDEp";

class Noise {
 public:
  explicit Noise(uint64_t seed) : random_(seed) {}

  size_t below(size_t bound) { return random_() % bound; }

  std::string next() {
    std::string bytes = whole();
    if (below(40) == 0 && !bytes.empty()) bytes[below(bytes.size())] = any_char();
    return bytes;
  }

 private:
  char any_char() { return static_cast<char>(below(256)); }
  std::string_view text() { return kTexts[below(std::size(kTexts))]; }
  std::string_view name() { return kNames[below(std::size(kNames))]; }

  std::string whole() {
    std::string out;
    switch (below(11)) {
      case 0:
        wire::write_query(out, text());
        return out;
      case 1:
      case 2:
        return parse(name(), text());
      case 3:
      case 4:
        return testing::bind(name(), name(), below(3) == 0 ? "1" : "");
      case 5:
        return describe(below(2) == 0 ? 'S' : 'P', name());
      case 6:
      case 7:
        return execute(name(), static_cast<char>(below(3)));
      case 8:
        return testing::sync();
      case 9:
        return testing::close(below(2) == 0 ? 'S' : 'P', name());
      default:
        return message(kTypes[below(kTypes.size())], std::string(below(9), any_char()));
    }
  }

  std::mt19937_64 random_;
};

void answer_sometimes(Client& client, Noise& noise) {
  if (!client.backend.pending || noise.below(2) == 0) return;
  const auto done = std::exchange(client.backend.pending, nullptr);
  if (noise.below(3) == 0) {
    done(Failure{"XX000", "no", ""});
  } else {
    done(Done{"OK"});
  }
}

TEST_CASE("console: noise") {
  const uint64_t seed = std::random_device()();
  CAPTURE(seed);
  Noise noise(seed);
  size_t answers = 0;
  for (int session = 0; session < 300; ++session) {
    Client client(noise.below(20) == 0 ? -1 : 0);
    for (int i = 0; i < 60 && !client.pipe.finished; ++i) {
      const std::string bytes = noise.next();
      const size_t cut = noise.below(bytes.size() + 1);
      client.send(bytes.substr(0, cut));
      if (!client.pipe.finished) client.send(bytes.substr(cut));
      answer_sometimes(client, noise);
      answers += client.types().size();
      REQUIRE_FALSE(client.broken);
    }
    const auto late = client.backend.pending;
    if (noise.below(2) == 0) client.pipe.session->on_end("connection reset by peer");
    client.session.reset();
    if (late) late(Done{"OK"});
  }
  // Noise that is refused at once would prove nothing.
  CHECK(answers > 3000);
}

}  // namespace
}  // namespace pgfresh::console::testing
