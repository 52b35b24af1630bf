// The console's language and the courtesies of drivers under any text. Oracles: a command that was
// understood has a spelling for the audit log; what is not understood gets advice; a session's desk
// is asked and described alike.
//
// Input: a text.
#include <string>

#include "console/command.h"
#include "console/courtesy.h"
#include "console/tokens.h"
#include "expect.h"

namespace pgfresh::console {
namespace {

void judge_command(TokenSpan tokens) {
  const auto command = parse_command(tokens);
  if (!command) {
    FUZZ_EXPECT(!advise(tokens).message.empty());
    return;
  }
  FUZZ_EXPECT(!to_text(*command).empty());
  FUZZ_EXPECT(!pattern_of(command->verb).empty());
  static_cast<void>(effect_of(command->verb));
}

void judge_input(std::string_view bytes) {
  if (bytes.size() > kTextBytesMax) return;
  const fuzz::Exact text(bytes);
  const auto statements = read_statements(text.view());
  if (!statements) {
    FUZZ_EXPECT(!statements.error().empty());
    return;
  }
  CourtesyDesk desk(SessionFacts{"ada", "pgfresh", "", "0.1", 1});
  for (const Tokens& tokens : *statements) {
    FUZZ_EXPECT(!tokens.empty());
    judge_command(tokens);
    const bool described = desk.describe(tokens).has_value();
    const bool answered = desk.answer(tokens).has_value();
    FUZZ_EXPECT(described == answered);
    FUZZ_EXPECT(desk.block() == 'I' || desk.block() == 'T' || desk.block() == 'E');
    static_cast<void>(desk.refuses(tokens));
    static_cast<void>(desk.take_changes());
  }
}

}  // namespace
}  // namespace pgfresh::console

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pgfresh::console::judge_input(pgfresh::fuzz::as_view(data, size));
  return 0;
}
