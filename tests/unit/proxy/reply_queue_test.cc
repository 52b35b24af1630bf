#include "proxy/reply_queue.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "proxy/prepared.h"
#include "query/statement.h"

namespace pgfresh::proxy {
namespace {

PreparedRef statement(std::string name) {
  auto made = std::make_shared<PreparedStatement>();
  made->name = std::move(name);
  return made;
}

TEST_CASE("reply queue: answers come in the order of asking") {
  ReplyQueue replies;
  CHECK(replies.empty());
  const uint64_t parse = replies.push(Asked::kParse, Purpose::kClient);
  const uint64_t sync = replies.push(Asked::kSync, Purpose::kQuiet);
  CHECK(parse < sync);
  CHECK(replies.last_sequence() == sync);
  CHECK(replies.front().sequence == parse);
  CHECK(replies.front().asked == Asked::kParse);
  replies.pop();
  CHECK(replies.front().purpose == Purpose::kQuiet);
  replies.pop();
  CHECK(replies.empty());
}

TEST_CASE(
    "reply queue: a pipeline that never rests keeps its order, and lets go what is answered") {
  ReplyQueue replies;
  std::mt19937 random(3);
  const PreparedRef prepared = statement("s");
  uint64_t next = 1;
  size_t most = 0;
  for (int i = 0; i < 20'000; ++i) {
    const bool grows = i % 4000 < 2000;
    if (replies.empty() || random() % 5 < (grows ? 3 : 2)) {
      replies.push(Asked::kBind, Purpose::kClient, prepared);
    } else {
      CHECK(replies.front().sequence == next++);
      replies.pop();
    }
    CHECK(replies.size() == replies.last_sequence() + 1 - next);
    CHECK(static_cast<size_t>(prepared.use_count()) <= 1 + 2 * replies.size() + 32);
    most = std::max(most, replies.size());
  }
  CHECK(most > 200);
  while (!replies.empty()) replies.pop();
  CHECK(prepared.use_count() == 1);
}

TEST_CASE("reply queue: an error skips to the Sync that was sent, and undoes what lies between") {
  ReplyQueue replies;
  const PreparedRef one = statement("one");
  const PreparedRef two = statement("two");
  replies.push(Asked::kBind, Purpose::kClient);
  replies.push(Asked::kParse, Purpose::kClient, one);
  replies.push(Asked::kExecute, Purpose::kClient);
  const uint64_t sync = replies.push(Asked::kSync, Purpose::kClient);
  replies.push(Asked::kParse, Purpose::kClient, two);
  std::vector<Asked> undone;
  replies.skip_to_sync([&](const ReplyItem& item) {
    undone.push_back(item.asked);
    if (item.asked == Asked::kParse) CHECK(item.prepared == one);
  });
  // The last one first: what stood under a name before comes back step by step.
  CHECK(undone == std::vector<Asked>{Asked::kExecute, Asked::kParse, Asked::kBind});
  CHECK_FALSE(replies.skipping());
  CHECK(replies.front().sequence == sync);
  replies.pop();
  CHECK(replies.front().prepared == two);
}

TEST_CASE("reply queue: an error before any Sync was sent makes what follows unanswered") {
  ReplyQueue replies;
  replies.push(Asked::kExecute, Purpose::kClient);
  replies.skip_to_sync([](const ReplyItem&) {});
  CHECK(replies.empty());
  CHECK(replies.skipping());
  replies.push(Asked::kParse, Purpose::kClient);
  replies.push(Asked::kQuery, Purpose::kClient);
  CHECK(replies.empty());
  replies.push(Asked::kSync, Purpose::kClient);
  CHECK_FALSE(replies.skipping());
  CHECK(replies.size() == 1);
  replies.push(Asked::kParse, Purpose::kClient);
  CHECK(replies.size() == 2);
}

TEST_CASE("reply queue: Syncs during a COPY of the extended protocol are not answered") {
  ReplyQueue replies;
  replies.push(Asked::kExecute, Purpose::kClient);
  replies.push(Asked::kSync, Purpose::kClient);  // sent with Execute, before the answer
  replies.copy_in_started();
  CHECK(replies.size() == 1);
  CHECK(replies.copying_in());
  replies.push(Asked::kSync, Purpose::kClient);
  CHECK(replies.size() == 1);
  replies.push(Asked::kCopyEnd, Purpose::kClient);
  CHECK_FALSE(replies.copying_in());
  replies.push(Asked::kSync, Purpose::kClient);
  CHECK(replies.size() == 2);
  replies.pop();
  CHECK(replies.front().asked == Asked::kSync);
}

TEST_CASE("reply queue: a COPY whose end was sent before its beginning was heard of") {
  ReplyQueue replies;
  replies.push(Asked::kExecute, Purpose::kClient);
  replies.push(Asked::kSync, Purpose::kClient);  // ignored: before the end
  replies.push(Asked::kCopyEnd, Purpose::kClient);
  replies.push(Asked::kSync, Purpose::kClient);  // counts: behind it
  replies.push(Asked::kQuery, Purpose::kClient);
  replies.copy_in_started();
  CHECK_FALSE(replies.copying_in());
  replies.pop();  // the Execute; the mark goes with it
  CHECK(replies.front().asked == Asked::kSync);
  replies.pop();
  CHECK(replies.front().asked == Asked::kQuery);
  CHECK(replies.size() == 1);
}

TEST_CASE("reply queue: CopyDone out of the blue is not noted") {
  ReplyQueue replies;
  replies.push(Asked::kCopyEnd, Purpose::kClient);
  CHECK(replies.empty());
}

TEST_CASE("reply queue: a COPY that fails is over, and its Sync counts") {
  ReplyQueue replies;
  replies.push(Asked::kExecute, Purpose::kClient);
  replies.copy_in_started();
  replies.skip_to_sync([](const ReplyItem&) {});
  CHECK_FALSE(replies.copying_in());
  CHECK(replies.skipping());
  replies.push(Asked::kSync, Purpose::kClient);
  CHECK(replies.size() == 1);
}

TEST_CASE("reply queue: bounded") {
  ReplyQueue replies;
  for (size_t i = 0; i < limits::kOutstandingMax; ++i) {
    CHECK_FALSE(replies.full());
    replies.push(Asked::kSync, Purpose::kClient);
  }
  CHECK(replies.full());
}

}  // namespace
}  // namespace pgfresh::proxy
