#include "proxy/transaction.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace pgfresh::proxy {
namespace {

using Block = Transaction::Block;

// BEGIN sent as message `sequence`, and answered.
void begin(Transaction& transaction, Block block, uint64_t sequence) {
  transaction.sent_begin(block, sequence);
  CHECK(transaction.ready('T', sequence).writes.slots.empty());
}

TEST_CASE("transaction: idle allows hits and fills") {
  const Transaction transaction;
  CHECK(transaction.status() == 'I');
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: a deferred block looks like one, and is none yet") {
  Transaction transaction;
  transaction.defer("BEGIN");
  CHECK(transaction.status() == 'T');
  CHECK(transaction.server_status() == 'I');
  CHECK(transaction.allows_hits());
  CHECK(transaction.take_deferred() == "BEGIN");
  CHECK_FALSE(transaction.deferred());
  CHECK(transaction.status() == 'I');
}

TEST_CASE("transaction: a query that PostgreSQL has not seen counts until its block ends") {
  Transaction transaction;
  transaction.read();
  CHECK_FALSE(transaction.take_read_unseen());  // of no block
  transaction.defer("BEGIN");
  transaction.read();
  static_cast<void>(transaction.ready('I', 1));  // of something of ours
  CHECK(transaction.take_deferred() == "BEGIN");
  transaction.sent_begin(Block::kReadCommitted, 2);
  static_cast<void>(transaction.ready('T', 2));
  CHECK(transaction.take_read_unseen());
  CHECK_FALSE(transaction.take_read_unseen());  // now it has
  transaction.read();
  static_cast<void>(transaction.ready('I', 3));
  CHECK_FALSE(transaction.take_read_unseen());
  transaction.defer("BEGIN");
  transaction.read();
  transaction.end_deferred();
  CHECK_FALSE(transaction.deferred());
  CHECK_FALSE(transaction.take_read_unseen());
}

TEST_CASE("transaction: READ COMMITTED blocks allow hits, others do not, failed ones neither") {
  Transaction committed;
  begin(committed, Block::kReadCommitted, 1);
  CHECK(committed.allows_hits());
  static_cast<void>(committed.ready('E', 2));
  CHECK_FALSE(committed.allows_hits());
  Transaction other;
  begin(other, Block::kOther, 1);
  CHECK_FALSE(other.allows_hits());
}

TEST_CASE("transaction: between BEGIN and its answer nothing is known") {
  Transaction transaction;
  transaction.sent_begin(Block::kReadCommitted, 4);
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 3));  // of something before it
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('T', 4));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: a block that began in a text not looked into allows nothing") {
  Transaction transaction;
  transaction.sent_unknown(1);
  static_cast<void>(transaction.ready('T', 1));
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 2));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: an unknown text that began no block is forgotten with its answer") {
  Transaction transaction;
  transaction.sent_unknown(1);
  static_cast<void>(transaction.ready('I', 1));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: the kind of one block says nothing about the next") {
  Transaction transaction;
  begin(transaction, Block::kReadCommitted, 1);
  static_cast<void>(transaction.ready('I', 2));
  begin(transaction, Block::kOther, 3);
  CHECK_FALSE(transaction.allows_hits());
}

// A block of this kind that PostgreSQL knows.
Transaction in_block(Block block) {
  Transaction transaction;
  begin(transaction, block, 1);
  return transaction;
}

TEST_CASE("transaction: one block may follow another without an idle moment") {
  Transaction transaction = in_block(Block::kReadCommitted);
  transaction.sent_end(2);
  transaction.sent_begin(Block::kOther, 3);
  static_cast<void>(transaction.ready('T', 4));
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 5));
  CHECK(transaction.allows_hits());

  transaction = in_block(Block::kReadCommitted);
  transaction.sent_end(2);
  transaction.sent_begin(Block::kReadCommitted, 3);
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('T', 4));
  CHECK(transaction.allows_hits());

  transaction = in_block(Block::kOther);
  transaction.sent_end(2);
  transaction.sent_begin(Block::kReadCommitted, 3);
  static_cast<void>(transaction.ready('T', 4));
  CHECK_FALSE(transaction.allows_hits());  // the BEGIN may have met the first one still
}

TEST_CASE("transaction: the same by a text not looked into, failed or not") {
  for (const char status : {'T', 'E'}) {
    Transaction transaction = in_block(Block::kReadCommitted);
    transaction.sent_unknown(2);
    static_cast<void>(transaction.ready(status, 2));
    static_cast<void>(transaction.ready('T', 3));  // back to a savepoint
    CHECK_FALSE(transaction.allows_hits());
  }
}

TEST_CASE("transaction: what leaves the block alone costs it nothing") {
  Transaction transaction = in_block(Block::kReadCommitted);
  transaction.sent_in_block(2);
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('T', 2));
  CHECK(transaction.allows_hits());
  Transaction put_off;  // sent together with its BEGIN
  put_off.sent_begin(Block::kReadCommitted, 1);
  put_off.sent_in_block(2);
  static_cast<void>(put_off.ready('T', 1));
  CHECK_FALSE(put_off.allows_hits());
  static_cast<void>(put_off.ready('T', 2));
  CHECK(put_off.allows_hits());
  Transaction other;
  other.sent_begin(Block::kOther, 1);
  other.sent_in_block(2);
  static_cast<void>(other.ready('T', 1));
  static_cast<void>(other.ready('T', 2));
  CHECK_FALSE(other.allows_hits());
  Transaction begun;
  begun.sent_in_block(1);
  static_cast<void>(begun.ready('T', 1));  // what it was is not known after all
  CHECK_FALSE(begun.allows_hits());
}

TEST_CASE("transaction: between COMMIT and its ReadyForQuery nothing is known") {
  Transaction transaction = in_block(Block::kReadCommitted);
  transaction.sent_end(5);
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('T', 4));  // of something before it
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 6));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: behind a write no hits until the transaction has ended") {
  Transaction transaction;
  begin(transaction, Block::kReadCommitted, 1);
  transaction.sent_write(2);
  CHECK(transaction.allows_isolation());
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('T', 2));
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 3));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: a write behind the message that is answered now still counts") {
  Transaction transaction;
  transaction.sent_write(5);
  static_cast<void>(transaction.ready('I', 4));
  CHECK_FALSE(transaction.allows_hits());
  static_cast<void>(transaction.ready('I', 5));
  CHECK(transaction.allows_hits());
}

TEST_CASE("transaction: slots are handed over once, at the end, each as often as it was opened") {
  Transaction transaction;
  begin(transaction, Block::kReadCommitted, 1);
  size_t opened = 0;
  for (const uint32_t slot : {7U, 9U, 7U}) opened += transaction.hold_open(slot) ? 1U : 0U;
  CHECK(transaction.ready('T', 2).writes.slots.empty());
  Transaction::Ended ended = transaction.ready('I', 3);
  CHECK(ended.writes.slots.size() == opened);
  CHECK(std::count(ended.writes.slots.begin(), ended.writes.slots.end(), 9U) == 1);
  CHECK_FALSE(ended.ddl);
  CHECK(transaction.ready('I', 4).writes.slots.empty());
  CHECK(transaction.take_ended().writes.slots.empty());
}

TEST_CASE("transaction: a lost connection hands over what is open") {
  Transaction transaction;
  static_cast<void>(transaction.hold_open(3));
  CHECK(transaction.take_ended().writes.slots == std::vector<uint32_t>{3});
}

TEST_CASE("transaction: what ends in the middle of a message is handed over there") {
  Transaction transaction;
  static_cast<void>(transaction.hold_open(3));
  transaction.carry("1 7 r 16402 1 1 1 1:1");
  transaction.saw_ddl();
  const Transaction::Ended first = transaction.take_ended();
  CHECK(first.writes.slots == std::vector<uint32_t>{3});
  CHECK(first.writes.events.count() == 1);
  CHECK(first.ddl);
  CHECK(transaction.hold_open(3));  // once more, for what follows
  const Transaction::Ended second = transaction.ready('I', 1);
  CHECK(second.writes.slots == std::vector<uint32_t>{3});
  CHECK(second.writes.events.empty());
  CHECK_FALSE(second.ddl);
}

TEST_CASE(
    "transaction: an outcome is unheard while something may commit and has not been answered") {
  Transaction transaction;
  CHECK_FALSE(transaction.outcome_unheard());
  transaction.sent_write(1);  // by itself
  CHECK(transaction.outcome_unheard());
  static_cast<void>(transaction.ready('I', 1));
  CHECK_FALSE(transaction.outcome_unheard());

  begin(transaction, Block::kReadCommitted, 2);
  transaction.sent_write(3);
  CHECK_FALSE(transaction.outcome_unheard());  // PostgreSQL rolls it back if we go
  static_cast<void>(transaction.ready('T', 3));
  transaction.sent_possible_commit(4);
  CHECK(transaction.outcome_unheard());
  static_cast<void>(transaction.ready('I', 4));
  CHECK_FALSE(transaction.outcome_unheard());

  begin(transaction, Block::kReadCommitted, 5);
  transaction.sent_possible_commit(6);
  CHECK_FALSE(transaction.outcome_unheard());  // it has only read
}

TEST_CASE("transaction: DDL is told with the end, once") {
  Transaction transaction;
  static_cast<void>(transaction.hold_open(0));
  transaction.saw_ddl();
  CHECK(transaction.ready('I', 1).ddl);
  CHECK_FALSE(transaction.ready('I', 2).ddl);
}

}  // namespace
}  // namespace pgfresh::proxy
