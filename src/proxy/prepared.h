// A session's prepared statements and portals. They belong to the session; a server connection
// only holds copies (server_link.h), made when something has to be sent there.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/limits.h"
#include "proxy/memo.h"

namespace pgfresh::proxy {

struct PreparedStatement {
  uint64_t id = 0;  // unique in the session: a name may be used again
  std::string name;
  MemoRef text;
  std::string parameter_oids;  // raw, as in Parse
  // Of the RowDescription the client was shown for it (row_shape), 0: none yet. A hit must have the
  // same shape, or it would have columns the client does not know of (freshness.md, anomaly 12).
  uint64_t shape = 0;
  // PostgreSQL parses it to another shape now, as it said when it was asked (ServerLink::
  // inject_check): executing it is refused as PostgreSQL would have refused it.
  bool outdated = false;
  uint64_t checked_generation = 0;  // the catalog's, when that was found
  // PostgreSQL was told of it, and not yet asked whether it has this shape.
  bool unchecked = false;
  // The types the client was shown for its parameters, as in parameter_oids; empty: none yet. And
  // whether a new one would have others: then it is parsed with these, and is no other's.
  std::string shown_oids;
  bool pinned = false;
  // PostgreSQL folds constants under the settings in force at Parse. Where the scope was known
  // then: its parse_id; else 0, and `doubts` and `epoch` tell whether it can still be the same.
  uint64_t parse_id = 0;
  uint64_t doubts = 0;  // when it was last used under these settings
  uint64_t epoch = 0;
  // PostgreSQL keeps what names meant at Parse, and the types of parameters, whatever DDL makes of
  // them. The catalog's generation then, or the last under which it meant the same; 0: none was
  // known. And what it meant (Verdict::meaning), 0: it has not been asked under that generation.
  uint64_t generation = 0;
  uint64_t meaning = 0;
  uint64_t names = 0;     // Verdict::names, with the meaning
  int64_t parsed_ns = 0;  // when ParseComplete had come; 0: PostgreSQL was not told of it
  // It was used at PostgreSQL under others, perhaps: which may have analysed it anew under those
  // (src/backend/utils/cache/plancache.c: RevalidateCachedQuery), or for the first time.
  bool astray = false;
};
using PreparedRef = std::shared_ptr<PreparedStatement>;

class PreparedTable {
 public:
  [[nodiscard]] PreparedRef find(std::string_view name) const {
    if (name.empty()) return unnamed_;
    const auto found = named_.find(std::string(name));
    return found == named_.end() ? nullptr : found->second;
  }

  // Null when the bounds of limits.h are reached; the statement is then unknown here.
  [[nodiscard]] PreparedRef define(std::string_view name, MemoRef text, std::string_view oids) {
    const size_t bytes = name.size() + oids.size() + text->statement().text.size() + 256;
    if (!name.empty() &&
        (named_.size() >= limits::kPreparedMax || bytes_ + bytes > limits::kPreparedBytesMax)) {
      return nullptr;
    }
    auto made = std::make_shared<PreparedStatement>();
    made->id = next_id_++;
    made->name = name;
    made->text = std::move(text);
    made->parameter_oids = oids;
    if (name.empty()) {
      unnamed_ = made;
    } else {
      bytes_ += bytes;
      named_[made->name] = made;
    }
    return made;
  }

  // What stands at PostgreSQL under its name is not this one any more.
  void renew(PreparedStatement& statement) { statement.id = next_id_++; }

  // What was erased, because it turned out to be there still.
  void restore(const PreparedRef& statement) {
    if (statement->name.empty()) {
      if (unnamed_ == nullptr) unnamed_ = statement;
      return;
    }
    if (!named_.emplace(statement->name, statement).second) return;
    bytes_ += charge(*statement);
  }

  void erase(std::string_view name) {
    if (name.empty()) {
      unnamed_.reset();
      return;
    }
    const auto found = named_.find(std::string(name));
    if (found == named_.end()) return;
    bytes_ -= charge(*found->second);
    named_.erase(found);
  }
  void clear() {
    unnamed_.reset();
    clear_named();
  }
  // As DEALLOCATE ALL and DISCARD ALL do: they leave the unnamed one alone.
  void clear_named() {
    named_.clear();
    bytes_ = 0;
  }

  [[nodiscard]] const std::unordered_map<std::string, PreparedRef>& named() const { return named_; }

 private:
  [[nodiscard]] static size_t charge(const PreparedStatement& statement) {
    return statement.name.size() + statement.parameter_oids.size() +
           statement.text->statement().text.size() + 256;
  }

  PreparedRef unnamed_;
  std::unordered_map<std::string, PreparedRef> named_;
  size_t bytes_ = 0;
  uint64_t next_id_ = 1;
};

// Portals on the server, each with the statement it was bound from. The unnamed one, which nearly
// every Bind means, allocates nothing.
class PortalTable {
 public:
  // Null when there is none.
  [[nodiscard]] PreparedRef find(std::string_view name) const {
    if (name.empty()) return unnamed_;
    const auto found = named_.find(std::string(name));
    return found == named_.end() ? nullptr : found->second;
  }
  // Forgets all of them where there are too many. A null `statement` is one that is not known.
  void define(std::string_view name, PreparedRef statement) {
    if (name.empty()) {
      unnamed_ = std::move(statement);
      return;
    }
    if (named_.size() >= limits::kPreparedMax) named_.clear();
    named_[std::string(name)] = std::move(statement);
  }
  void erase(std::string_view name) {
    if (name.empty()) {
      unnamed_.reset();
    } else {
      named_.erase(std::string(name));
    }
  }
  void clear() {
    unnamed_.reset();
    if (!named_.empty()) named_.clear();
  }

 private:
  PreparedRef unnamed_;
  std::unordered_map<std::string, PreparedRef> named_;
};

}  // namespace pgfresh::proxy
