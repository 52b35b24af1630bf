// Startup packets under any bytes. Oracles: nothing is decided before the packet is there except
// that its length is wrong; what is accepted has the packet's length and is written back to the
// same bytes.
#include <string>
#include <variant>

#include "base/limits.h"
#include "expect.h"
#include "wire/messages.h"

namespace pgfresh::wire {
namespace {

// The bytes of an accepted packet; empty for one that is not written back (GSSENCRequest).
std::string written(const StartupPacket& packet) {
  std::string out;
  if (std::holds_alternative<SslRequest>(packet)) write_ssl_request(out);
  if (const auto* cancel = std::get_if<CancelRequest>(&packet)) {
    write_cancel_request(out, cancel->pid, cancel->secret);
  }
  if (const auto* message = std::get_if<StartupMessage>(&packet)) {
    FUZZ_EXPECT(message->major == 3);
    write_startup_message(out, *message);
    for (const auto& [name, value] : message->parameters) {
      FUZZ_EXPECT(message->get(name).data() != nullptr);
    }
  }
  return out;
}

// Every shorter input must ask for more, or be refused in the same way.
void check_prefixes(std::string_view bytes, const StartupPacket& packet) {
  for (size_t size = 0; size < bytes.size() && size < 64; ++size) {
    const fuzz::Exact shorter(bytes.substr(0, size));
    std::string_view in = shorter.view();
    const StartupPacket early = read_startup_packet(in);
    if (std::holds_alternative<StartupNeedsMore>(early)) {
      FUZZ_EXPECT(in.size() == size);
    } else if (std::holds_alternative<StartupBroken>(early)) {
      FUZZ_EXPECT(std::holds_alternative<StartupBroken>(packet));
    } else {
      FUZZ_EXPECT(early.index() == packet.index());
    }
  }
}

}  // namespace
}  // namespace pgfresh::wire

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pgfresh;
  const fuzz::Exact input(fuzz::as_view(data, size));
  std::string_view in = input.view();
  const wire::StartupPacket packet = wire::read_startup_packet(in);
  const size_t taken = size - in.size();
  if (std::holds_alternative<wire::StartupNeedsMore>(packet)) {
    FUZZ_EXPECT(taken == 0);
    FUZZ_EXPECT(size <= limits::kStartupBytesMax + 4);
  } else if (const auto* broken = std::get_if<wire::StartupBroken>(&packet)) {
    FUZZ_EXPECT(!broken->why.empty() && broken->sqlstate.size() == 5 && taken > 0);
  } else {
    FUZZ_EXPECT(taken >= 8 && taken <= limits::kStartupBytesMax + 4);
    const std::string again = wire::written(packet);
    if (!again.empty()) FUZZ_EXPECT(again == input.view().substr(0, taken));
  }
  wire::check_prefixes(input.view(), packet);
  return 0;
}
