#include "proxy/answer_form.h"

#include <doctest/doctest.h>

#include <string>

#include "proxy/fetch.h"

namespace pgfresh::proxy {
namespace {

std::string message(char type, std::string_view body) {
  std::string bytes(1, type);
  const auto length = static_cast<uint32_t>(body.size() + 4);
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(length >> shift);
  return bytes.append(body);
}

const std::string kColumns = message('T', std::string(2, '\0'));
const std::string kRow = message('D', std::string("\0\1\0\0\0\1x", 7));
const std::string kEnd = message('C', std::string("SELECT 1\0", 9));
const std::string kSuspended = message('s', "");
const std::string kParameters = message('t', std::string(2, '\0'));

AnswerForm rows(uint32_t description_bytes) {
  return {false, false, description_bytes, row_shape(kColumns)};
}

TEST_CASE("answer form: rows, with a description and without") {
  const auto described = static_cast<uint32_t>(kColumns.size());
  CHECK(has_form(kColumns + kRow + kRow + kEnd, rows(described)));
  CHECK(has_form(kColumns + kEnd, rows(described)));
  CHECK(has_form(kRow + kEnd, rows(0)));
  CHECK(has_form(kEnd, rows(0)));
  CHECK_FALSE(has_form(kColumns + kRow + kEnd, rows(0)));
  CHECK_FALSE(has_form(kRow + kEnd, rows(described)));
  CHECK_FALSE(has_form(kColumns + kRow + kEnd, rows(described - 1)));
  AnswerForm other = rows(described);
  other.shape ^= 1;
  CHECK_FALSE(has_form(kColumns + kRow + kEnd, other));
}

TEST_CASE("answer form: each cut, and anything behind, is seen") {
  const std::string body = kColumns + kRow + kEnd;
  const AnswerForm form = rows(static_cast<uint32_t>(kColumns.size()));
  for (size_t size = 0; size < body.size(); ++size)
    CHECK_FALSE(has_form(body.substr(0, size), form));
  CHECK_FALSE(has_form(body + kEnd, form));
  CHECK_FALSE(has_form(body + "C", form));
  CHECK_FALSE(has_form(kColumns + kEnd + kRow, form));
  CHECK_FALSE(has_form(kColumns + message('Z', "I") + kEnd, form));
  CHECK_FALSE(has_form(std::string("C\0\0\0\3", 5), rows(0)));          // shorter than its length
  CHECK_FALSE(has_form(std::string("C\xff\xff\xff\xff", 5), rows(0)));  // longer than anything
}

TEST_CASE("answer form: a suspended portal only where a limit was asked for") {
  AnswerForm form = rows(0);
  CHECK_FALSE(has_form(kRow + kSuspended, form));
  form.row_limited = true;
  CHECK(has_form(kRow + kSuspended, form));
  CHECK(has_form(kRow + kEnd, form));
}

TEST_CASE("answer form: descriptions of statements") {
  AnswerForm form = rows(static_cast<uint32_t>(kColumns.size()));
  form.of_description = true;
  CHECK(has_form(kParameters + kColumns, form));
  CHECK_FALSE(has_form(kColumns, form));
  CHECK_FALSE(has_form(kParameters, form));
  CHECK_FALSE(has_form(kParameters + kColumns + kEnd, form));
  CHECK(has_form(kParameters + message('n', ""), form));
  form.shape ^= 1;
  CHECK_FALSE(has_form(kParameters + kColumns, form));
}

}  // namespace
}  // namespace pgfresh::proxy
