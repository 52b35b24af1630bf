// Does a body that came from outside this process have the form of an answer? What is wrong inside
// a message harms nobody but the client that asked; a message that is cut short or does not belong
// here would break the protocol. So: whole messages, in the order PostgreSQL sends them.
#pragma once

#include <cstdint>
#include <string_view>

namespace pgfresh::proxy {

struct AnswerForm {
  bool of_description = false;     // of a statement's Describe, instead of rows
  bool row_limited = false;        // PortalSuspended may end it
  uint32_t description_bytes = 0;  // as the entry claims
  uint64_t shape = 0;              // as the entry claims
};

[[nodiscard]] bool has_form(std::string_view body, const AnswerForm& form);

}  // namespace pgfresh::proxy
