#include "proxy/answer_form.h"

#include "proxy/fetch.h"
#include "wire/framer.h"

namespace pgfresh::proxy {
namespace {

// Cuts the message in front off `rest`; empty when there is no whole one.
std::string_view cut_message(std::string_view& rest) {
  if (rest.size() < wire::kHeaderBytes) return {};
  uint32_t length = 0;
  for (size_t i = 1; i < wire::kHeaderBytes; ++i) {
    length = (length << 8) | static_cast<uint8_t>(rest[i]);
  }
  if (length < wire::kHeaderBytes - 1 || length > rest.size() - 1) return {};
  const std::string_view message = rest.substr(0, size_t{length} + 1);
  rest.remove_prefix(message.size());
  return message;
}

bool is(std::string_view message, char type) { return !message.empty() && message[0] == type; }

// [ParameterDescription][RowDescription or NoData]
bool is_description(std::string_view body, const AnswerForm& form) {
  if (!is(cut_message(body), 't')) return false;
  const std::string_view columns = cut_message(body);
  if (!body.empty()) return false;
  if (is(columns, 'n')) return columns.size() == wire::kHeaderBytes;
  return is(columns, 'T') && columns.size() == form.description_bytes &&
         row_shape(columns) == form.shape;
}

}  // namespace

bool has_form(std::string_view body, const AnswerForm& form) {
  if (form.of_description) return is_description(body, form);
  std::string_view message = cut_message(body);
  if (form.description_bytes != 0) {
    if (!is(message, 'T') || message.size() != form.description_bytes ||
        row_shape(message) != form.shape) {
      return false;
    }
    message = cut_message(body);
  }
  while (is(message, 'D')) message = cut_message(body);
  if (!body.empty()) return false;
  return is(message, 'C') ||
         (form.row_limited && is(message, 's') && message.size() == wire::kHeaderBytes);
}

}  // namespace pgfresh::proxy
