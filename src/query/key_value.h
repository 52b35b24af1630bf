// The values of key columns in one canonical spelling: the one in which the triggers of
// sql/install.sql send them, which is what the type's output function gives. A value that comes
// from a literal or a bind parameter is brought to it here, or refused: what is refused makes the
// result depend on the whole table. So refusing is always right, and everything that PostgreSQL
// versions read differently (hexadecimal integers, prefixes of `true`) is refused.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace pgfresh::query {

// Types whose equality is that of their canonical texts. Integers of any width are one type:
// PostgreSQL compares them with each other as numbers. Text stands for text and varchar with a
// deterministic collation, which are equal when their bytes are.
enum class KeyType : uint8_t { kNone, kInteger, kUuid, kText, kBool };

// Of a type's or its array's oid (pg_type.dat); kNone: not a key type.
[[nodiscard]] KeyType key_type(uint32_t type_oid);
[[nodiscard]] KeyType key_type_of_array(uint32_t array_oid);
// The array type of a key type's oid, and back; 0: none.
[[nodiscard]] uint32_t key_array_oid(uint32_t type_oid);
[[nodiscard]] uint32_t key_element_oid(uint32_t array_oid);

// Room for a canonical value that is not spelled as it came.
using KeyBuffer = std::array<char, 40>;

// What the type's input function makes of `text`. The result points into `text` or `buffer`.
[[nodiscard]] std::optional<std::string_view> canonical_text(KeyType type, std::string_view text,
                                                             KeyBuffer& buffer);
// What the receive function of the type with this oid makes of `bytes`.
[[nodiscard]] std::optional<std::string_view> canonical_binary(uint32_t type_oid,
                                                               std::string_view bytes,
                                                               KeyBuffer& buffer);

// The elements of an array in its text form, one dimension, without bounds: {1,"a b",NULL}.
// `next` tells them one by one; an element is unescaped in place of a buffer of the caller's.
class TextArrayReader {
 public:
  explicit TextArrayReader(std::string_view text);

  struct Element {
    std::string_view text;  // valid until the next call
    bool is_null = false;   // an unquoted NULL (which array_nulls = off reads as a word)
  };
  // nullopt: the end, or not understood; ok() tells which.
  [[nodiscard]] std::optional<Element> next();
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  std::optional<Element> fail();
  std::optional<Element> quoted();
  std::optional<Element> bare();
  void skip_blanks();
  bool end_of_element();

  static constexpr size_t kElementBytesMax = 1024;
  std::string_view rest_;
  std::array<char, kElementBytesMax> unescaped_{};
  bool ok_ = true;
  bool more_ = false;
};

// The same for the binary form, of any number of dimensions (array_recv).
class BinaryArrayReader {
 public:
  // REQUIRES: nothing of `bytes`.
  BinaryArrayReader(std::string_view bytes, uint32_t element_oid);

  struct Element {
    std::string_view bytes;
    bool is_null = false;
  };
  [[nodiscard]] std::optional<Element> next();
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  bool number(uint32_t& value);

  std::string_view rest_;
  uint64_t left_ = 0;
  bool ok_ = true;
};

}  // namespace pgfresh::query
