#include "cache/resp.h"

#include <hiredis/hiredis.h>

#include <array>
#include <utility>

#include "base/check.h"
#include "base/limits.h"

namespace pgfresh::cache {
namespace {

// hiredis 1 counts items otherwise than 0.14 does, and has kinds that a server speaks only when
// asked to, by HELLO; one that does so unasked is refused. Without functions for them it would make
// numbers of them and call them objects.
#if HIREDIS_MAJOR >= 1
using ItemCount = size_t;
#else
using ItemCount = int;
#endif

// `texts` and `sizes`: room for as many as there are arguments.
void append_formatted(std::string& out, std::span<const std::string_view> arguments,
                      const char** texts, size_t* sizes) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    texts[i] = arguments[i].data();
    sizes[i] = arguments[i].size();
  }
  char* command = nullptr;
  const auto size =
      redisFormatCommandArgv(&command, static_cast<int>(arguments.size()), texts, sizes);
  PGFRESH_CHECK(size > 0);
  out.append(command, static_cast<size_t>(size));
  redisFreeCommand(command);
}

}  // namespace

// What hiredis calls to make its objects: an answer is a RedisReply on the heap, its items lie in
// their parent's vector, which has its size from the beginning. Null is how one refuses.
struct ReplyBuilder {
  static RedisReply* place(const redisReadTask* task) {
    if (task->parent == nullptr) return new RedisReply;
    auto* parent = static_cast<RedisReply*>(task->parent->obj);
    return &parent->items[static_cast<size_t>(task->idx)];
  }

  static void* make_string(const redisReadTask* task, char* text, size_t size) noexcept {
    auto* reader = static_cast<ReplyReader*>(task->privdata);
    reader->bytes_ += size;
    if (reader->bytes_ > reader->reply_bytes_max_) return nullptr;
    RedisReply* reply = place(task);
    reply->kind = task->type == REDIS_REPLY_ERROR    ? RedisReply::Kind::kError
                  : task->type == REDIS_REPLY_STATUS ? RedisReply::Kind::kStatus
                                                     : RedisReply::Kind::kString;
    reply->text.assign(text, size);
    return reply;
  }

  static void* make_array(const redisReadTask* task, ItemCount size) noexcept {
    auto* reader = static_cast<ReplyReader*>(task->privdata);
    const auto items = static_cast<size_t>(size);  // below zero: too many
    if (items > limits::kRedisItemsMax) return nullptr;
    reader->items_ += items;
    if (reader->items_ > limits::kRedisItemsMax) return nullptr;
    RedisReply* reply = place(task);
    reply->kind = RedisReply::Kind::kArray;
    reply->items.resize(items);
    return reply;
  }

  static void* make_integer(const redisReadTask* task, long long number) noexcept {
    RedisReply* reply = place(task);
    reply->kind = RedisReply::Kind::kInteger;
    reply->integer = number;
    return reply;
  }

  static void* make_nil(const redisReadTask* task) noexcept { return place(task); }

  // hiredis frees whole answers only.
  static void free(void* reply) noexcept { delete static_cast<RedisReply*>(reply); }

  static redisReplyObjectFunctions* functions() {
    static redisReplyObjectFunctions table = [] {
      redisReplyObjectFunctions made{};
      made.createString = make_string;
      made.createArray = make_array;
      made.createInteger = make_integer;
      made.createNil = make_nil;
      made.freeObject = free;
#if HIREDIS_MAJOR >= 1
      made.createDouble = [](const redisReadTask*, double, char*, size_t) -> void* {
        return nullptr;
      };
      made.createBool = [](const redisReadTask*, int) -> void* { return nullptr; };
#endif
      return made;
    }();
    return &table;
  }
};

void append_command(std::string& out, std::span<const std::string_view> arguments) {
  constexpr size_t kOrdinary = 8;
  PGFRESH_CHECK(!arguments.empty() && arguments.size() <= limits::kRedisItemsMax);
  if (arguments.size() <= kOrdinary) {
    std::array<const char*, kOrdinary> texts;
    std::array<size_t, kOrdinary> sizes;
    append_formatted(out, arguments, texts.data(), sizes.data());
  } else {
    std::vector<const char*> texts(arguments.size());
    std::vector<size_t> sizes(arguments.size());
    append_formatted(out, arguments, texts.data(), sizes.data());
  }
}

void ReplyReader::FreeReader::operator()(redisReader* reader) const noexcept {
  redisReaderFree(reader);
}

ReplyReader::ReplyReader(size_t reply_bytes_max)
    : reply_bytes_max_(reply_bytes_max),
      reader_(redisReaderCreateWithFunctions(ReplyBuilder::functions())) {
  PGFRESH_CHECK(reader_ != nullptr);
  reader_->privdata = this;
}

ReplyReader::~ReplyReader() = default;

void ReplyReader::feed(std::string_view bytes) {
  // Its failures are kept in the reader and told by next().
  static_cast<void>(redisReaderFeed(reader_.get(), bytes.data(), bytes.size()));
}

ReplyReader::Read ReplyReader::next(RedisReply& reply) {
  void* made = nullptr;
  if (redisReaderGetReply(reader_.get(), &made) != REDIS_OK) return Read::kBroken;
  if (made == nullptr) {
    // A text that is announced and not whole lies in the reader's buffer.
    const size_t unread = reader_->len - reader_->pos;
    return unread > reply_bytes_max_ + limits::kRedisItemsMax ? Read::kBroken : Read::kMore;
  }
  const std::unique_ptr<RedisReply> owned(static_cast<RedisReply*>(made));
  reply = std::move(*owned);
  items_ = 0;
  bytes_ = 0;
  return Read::kReply;
}

}  // namespace pgfresh::cache
