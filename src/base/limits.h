// Every bound of pgfresh that is not an option of the configuration file, with its sum.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pgfresh::limits {

// PostgreSQL's own limit for a startup packet (MAX_STARTUP_PACKET_LENGTH,
// src/include/libpq/pqcomm.h).
inline constexpr uint32_t kStartupBytesMax = 10'000;

// A frontend message up to this size is looked at whole; a longer one is forwarded in pieces,
// unexamined, and counts as "may write". 16 KB of SQL (query.text_bytes_max) + parameters.
inline constexpr uint32_t kFrontendWholeMax = 64 * 1024;

// Backend messages other than rows and COPY data are held until whole up to this size. The
// longest that must be seen whole is a PF001 notice: 8000 bytes of payload + its other fields.
inline constexpr uint32_t kBackendWholeMax = 64 * 1024;

// No message of the protocol may be longer: PostgreSQL's MaxAllocSize, 1 GB - 1 (memutils.h).
inline constexpr uint32_t kMessageBytesMax = 0x3fffffff;

// What one session holds back while it waits to know whether a segment (Parse, Bind, Describe …
// before Execute) can be answered locally: two whole messages and change.
inline constexpr size_t kHeldBytesMax = 192 * 1024;

// A peer whose output queue is above the high mark stops the reading from the other side.
// 2 sides × 256 KB × 1000 busy clients = 512 MB at the very worst.
inline constexpr size_t kQueueHighBytes = 256 * 1024;

// Proxies of one database; whoever makes it look like more is no friend.
inline constexpr uint32_t kPublishersMax = 256;

// … but where PostgreSQL may have committed something that this proxy has to publish, it is read on
// up to here. Only sessions with such an answer in front of their COMMIT, which do not read, get
// there: 100 at once are 400 MB.
inline constexpr size_t kUnheardBytesMax = 4 * 1024 * 1024;

// Requests of one session that PostgreSQL has not answered: 24 bytes each, 1.5 MB.
inline constexpr size_t kOutstandingMax = 65'536;

// Prepared statements of one session that pgfresh remembers; beyond, they are forwarded unknown.
inline constexpr size_t kPreparedMax = 16'384;
inline constexpr size_t kPreparedBytesMax = 16 * 1024 * 1024;
// Of these, accepted without PostgreSQL and remembered to be parsed there: nobody prepares more
// texts like BEGIN, and what is forgotten is parsed when it is used.
inline constexpr size_t kAcceptedMax = 32;

// A BEGIN that was answered here, with the settings of its block that were, too: sent as one Query.
// Beyond, PostgreSQL is told of the block.
inline constexpr size_t kDeferredBytesMax = 64 * 1024;

// Distinct key values a trigger reports in one event (freshness.md, rule 2), and its size:
// NOTIFY takes less than 8000 bytes (src/backend/commands/async.c, NOTIFY_PAYLOAD_MAX_LENGTH).
inline constexpr size_t kEventKeysMax = 64;
inline constexpr size_t kEventBytesMax = 8'000;

// Slots a result may depend on; a statement that reads more tables is not cached. Key values one
// table is looked for with, as many as an event may tell; beyond, or when they do not find room in
// the stamp, the result depends on the whole table. 192 slots × 16 bytes = 3 KB an entry at worst.
inline constexpr size_t kStampSlotsMax = 192;
inline constexpr size_t kTablesMax = 64;
inline constexpr size_t kKeyValuesMax = 64;

// Items of one answer of Redis, and arguments of one command: the longest list asked for is that of
// the entries an event killed, 256 at a time with their scores. 4096 × 72 bytes = 288 KB.
inline constexpr size_t kRedisItemsMax = 4096;

// Killed pairs that wait to be freed in Redis: 16 bytes each, 1 MB. Two seconds of 10,000 events.
inline constexpr size_t kRedisFreedMax = 65'536;

// Locks of Redis one loop remembers to hold, about 100 bytes each: as many as it may fetch at once.
inline constexpr size_t kRedisLocksMax = 4096;

// FLUSHes that wait for one another's walk through Redis; those beyond are told so.
inline constexpr size_t kRedisWalksMax = 16;

// What a proxy that joins is sent through a mailbox, at most: 300,000 slots of 12 bytes.
inline constexpr size_t kMailBytesMax = size_t{4} << 20;

}  // namespace pgfresh::limits
