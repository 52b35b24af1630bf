// Redis' protocol (RESP2) as values: hiredis formats and parses, the bytes travel elsewhere. What
// hiredis leaves open is bounded here: the bytes of one answer and the items in it, so that a peer
// that answers garbage cannot make this process allocate by the word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct redisReader;

namespace pgfresh::cache {

struct RedisReply {
  enum class Kind : uint8_t { kNil, kString, kStatus, kInteger, kArray, kError };
  Kind kind = Kind::kNil;
  int64_t integer = 0;
  std::string text = {};               // of kString, kStatus, kError
  std::vector<RedisReply> items = {};  // of kArray

  [[nodiscard]] bool is_error() const { return kind == Kind::kError; }
};

// Appends one command with its arguments. REQUIRES: at least one.
void append_command(std::string& out, std::span<const std::string_view> arguments);

// One connection's answers, cut out of its bytes.
class ReplyReader {
 public:
  explicit ReplyReader(size_t reply_bytes_max);
  ~ReplyReader();
  ReplyReader(const ReplyReader&) = delete;
  ReplyReader& operator=(const ReplyReader&) = delete;

  enum class Read : uint8_t { kReply, kMore, kBroken };
  void feed(std::string_view bytes);
  // The next answer that is whole. Broken stays broken.
  [[nodiscard]] Read next(RedisReply& reply);

 private:
  friend struct ReplyBuilder;
  struct FreeReader {
    void operator()(redisReader* reader) const noexcept;
  };

  const size_t reply_bytes_max_;
  std::unique_ptr<redisReader, FreeReader> reader_;
  // Of the answer under way.
  size_t items_ = 0;
  size_t bytes_ = 0;
};

}  // namespace pgfresh::cache
