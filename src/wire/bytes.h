// Reading and writing the protocol's integers and strings: big endian, strings end with a zero
// byte. For src/wire alone; others see messages, not bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/limits.h"

namespace pgfresh::wire {

// The length -1 of a value.
inline constexpr uint32_t kNullLength = 0xffffffff;

[[nodiscard]] inline uint32_t load_u32(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap32(value);
}

[[nodiscard]] inline uint16_t load_u16(const char* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return __builtin_bswap16(value);
}

inline void store_u32(char* at, uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(at, &value, sizeof value);
}

inline void append_u32(std::string& out, uint32_t value) {
  char bytes[sizeof value];
  store_u32(bytes, value);
  out.append(bytes, sizeof bytes);
}

inline void append_u16(std::string& out, uint16_t value) {
  out.push_back(static_cast<char>(value >> 8));
  out.push_back(static_cast<char>(value & 0xff));
}

// A string of the protocol. REQUIRES: no zero byte in `text`; cutting SQL or a password short
// would change what it means.
inline void append_cstring(std::string& out, std::string_view text) {
  PGFRESH_CHECK(text.find('\0') == std::string_view::npos);
  out.append(text);
  out.push_back('\0');
}

// A string for people to read, cut at the first zero byte: it may quote a peer's bytes.
inline void append_text(std::string& out, std::string_view text) {
  out.append(text.substr(0, text.find('\0')));
  out.push_back('\0');
}

// Takes values from the front of some bytes. The first one that is not there makes it fail for
// good: every later value is empty or zero, and at_end() stays false. So a caller reads all it
// wants and asks once. REQUIRES: the bytes outlive it; string results point into them.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  // `count` bytes.
  [[nodiscard]] std::string_view bytes(size_t count) {
    if (count > rest_.size()) return fail();
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  [[nodiscard]] char u8() {
    const std::string_view taken = bytes(1);
    return taken.empty() ? '\0' : taken.front();
  }
  [[nodiscard]] uint16_t u16() {
    const std::string_view taken = bytes(2);
    return taken.empty() ? uint16_t{0} : load_u16(taken.data());
  }
  [[nodiscard]] uint32_t u32() {
    const std::string_view taken = bytes(4);
    return taken.empty() ? 0 : load_u32(taken.data());
  }
  // Up to the next zero byte, which is taken too.
  [[nodiscard]] std::string_view cstring() {
    const size_t end = rest_.find('\0');
    if (end == std::string_view::npos) return fail();
    const std::string_view taken = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return taken;
  }

  [[nodiscard]] bool ok() const { return ok_; }
  // Nothing failed and nothing is left.
  [[nodiscard]] bool at_end() const { return ok_ && rest_.empty(); }
  [[nodiscard]] std::string_view rest() const { return rest_; }

 private:
  std::string_view fail() {
    ok_ = false;
    rest_ = {};
    return {};
  }

  std::string_view rest_;
  bool ok_ = true;
};

// Appends a message's type and length; the length is filled in when the object goes. In between
// the body is appended to the same string. Type 0: a startup packet, which has no type byte.
class MessageFrame {
 public:
  MessageFrame(std::string& out, char type) : out_(out) {
    if (type != 0) out_.push_back(type);
    length_at_ = out_.size();
    out_.append(4, '\0');
  }
  MessageFrame(const MessageFrame&) = delete;
  MessageFrame& operator=(const MessageFrame&) = delete;
  ~MessageFrame() {
    const size_t length = out_.size() - length_at_;
    PGFRESH_CHECK(length < limits::kMessageBytesMax);
    store_u32(out_.data() + length_at_, static_cast<uint32_t>(length));
  }

 private:
  std::string& out_;
  size_t length_at_;
};

}  // namespace pgfresh::wire
