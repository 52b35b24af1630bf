#include "actor.h"

#include <algorithm>
#include <utility>

namespace pgfresh::sim {
namespace {

std::string select_text(int64_t row, const std::string& table = "bench") {
  return "SELECT v FROM " + table + " WHERE id = " + std::to_string(row);
}

std::vector<std::optional<int64_t>> first_columns(const std::vector<WireClient::Message>& heard) {
  std::vector<std::optional<int64_t>> values;
  for (const WireClient::Message& message : heard) {
    if (message.type == 'D') values.push_back(numbers_of(message).front());
  }
  return values;
}

bool has(const std::vector<WireClient::Message>& heard, char type) {
  return std::any_of(heard.begin(), heard.end(),
                     [type](const auto& message) { return message.type == type; });
}

bool has_tag(const std::vector<WireClient::Message>& heard, std::string_view tag) {
  return std::any_of(heard.begin(), heard.end(), [tag](const auto& message) {
    return message.type == 'C' && std::string_view(message.body.data()) == tag;
  });
}

// An UPDATE of one row, or the function's word for it.
bool has_written(const std::vector<WireClient::Message>& heard) {
  const bool called = std::any_of(heard.begin(), heard.end(), [](const auto& message) {
    return message.type == 'T' && message.body.find("raise_v") != std::string::npos;
  });
  if (!called) return has_tag(heard, "UPDATE 1");
  const auto values = first_columns(heard);
  return has_tag(heard, "SELECT 1") && !values.empty() && values.front() == 1;
}

}  // namespace

Actor::Actor(Loop& loop, Judge& judge, Random& random, ActorOptions options,
             std::function<std::unique_ptr<Stream>()> connect)
    : judge_(judge),
      random_(random),
      options_(std::move(options)),
      connect_(std::move(connect)),
      client_(loop) {
  client_.set_listener([this](char type) { on_message(type); });
}

// ── The machine ──────────────────────────────────────────────────────────────────────────────────

void Actor::act() {
  if (!connected_) {
    log_in();
    return;
  }
  if (!options_.writes_row) {
    switch (random_.below(11)) {
      case 0:
        read_in_block();
        break;
      case 1:
        read_pipelined();
        break;
      case 6:
        read_in_snapshot();
        break;
      case 2:
        read_in_one_segment();
        break;
      case 3:
      case 4:
        read_sum();
        break;
      case 5:
        if (random_.one_in(4)) {
          change_setting();
          break;
        }
        [[fallthrough]];
      default:
        read_once();
    }
  } else {
    switch (random_.below(8)) {
      case 0:
      case 1:
        write_in_block();
        break;
      case 2:
        write_behind_savepoint();
        break;
      case 3:
        write_and_read_pipelined();
        break;
      case 4:
        write_and_fail();
        break;
      case 5:
        read_once();
        break;
      default:
        write_once();
    }
  }
  next();
}

void Actor::next() {
  if (steps_.empty()) return;
  waiting_ = true;
  readies_ = steps_.front().readies;
  client_.forget();
  steps_.front().say();
  client_.send();
}

void Actor::on_message(char type) {
  if (type == '\0') {
    lost();
    return;
  }
  if (type != 'Z' || --readies_ > 0) return;
  const Step step = std::move(steps_.front());
  steps_.pop_front();
  waiting_ = false;
  const Heard heard = client_.messages();
  // It may not have been parsed.
  if (prepared_ && has(heard, 'E')) {
    prepared_ = false;
    ++statements_;
  }
  step.hear(heard);
  next();
}

void Actor::lost() {
  ++losses_;
  connected_ = false;
  waiting_ = false;
  prepared_ = false;
  steps_.clear();
  // What may have been committed stays undecided for the judge.
  if (version_ && !undecided_) judge_.aborted(*options_.writes_row, *version_);
  version_.reset();
  client_.disconnect();
}

void Actor::log_in() {
  std::unique_ptr<Stream> stream = connect_();
  if (stream == nullptr) return;
  client_.connect(std::move(stream));
  connected_ = true;
  steps_.push_back({[this] { client_.startup(); }, [](const Heard&) {}});
  next();
}

// ── Reading ──────────────────────────────────────────────────────────────────────────────────────

int64_t Actor::any_row() {
  return 1 + static_cast<int64_t>(random_.below(static_cast<uint64_t>(options_.rows)));
}

void Actor::judge_rows(const Heard& heard, const std::vector<int64_t>& rows, Judge::Moment sent) {
  const auto values = first_columns(heard);
  if (values.size() != rows.size()) {
    if (!has(heard, 'E')) judge_.violation("an answer without its rows, and without an error");
    return;
  }
  for (size_t i = 0; i < rows.size(); ++i) judge_.read(rows[i], values[i], options_.proxy, sent);
}

void Actor::say_read(int64_t row) {
  const std::string id = std::to_string(row);
  const bool mirror = options_.mirror && random_.one_in(4);
  const std::string table = mirror ? "mirror" : "bench";
  if (mirror) ++mirrors_read_;
  switch (random_.below(4)) {
    case 0:
      client_.parse("", "SELECT v FROM " + table + " WHERE id = $1").bind("", "", {id});
      client_.describe('P', "").execute().sync();
      return;
    case 1:
      if (!prepared_) client_.parse(statement(), "SELECT v FROM bench WHERE id = $1");
      prepared_ = true;
      client_.bind("", statement(), {id}).execute().sync();
      return;
    default:
      client_.query(select_text(row, table));
  }
}

Actor::Step Actor::reading(int64_t row) {
  return {[this, row] {
            sent_ = judge_.now();
            say_read(row);
          },
          [this, row](const Heard& heard) { judge_rows(heard, {row}, sent_); }};
}

void Actor::read_once() { steps_.push_back(reading(any_row())); }

void Actor::read_in_block() {
  steps_.push_back(control("BEGIN"));
  const uint64_t reads = 1 + random_.below(3);
  for (uint64_t i = 0; i < reads; ++i) steps_.push_back(reading(any_row()));
  steps_.push_back(control(random_.one_in(2) ? "COMMIT" : "ROLLBACK"));
}

// A snapshot is taken by the first statement and kept: the same row reads the same again.
void Actor::read_in_snapshot() {
  const int64_t row = any_row();
  steps_.push_back(control(random_.one_in(2)
                               ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
                               : "START TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
  steps_.push_back({[this, row] {
                      sent_ = judge_.now();
                      client_.query(select_text(row));
                    },
                    [this, row](const Heard& heard) {
                      judge_rows(heard, {row}, sent_);
                      const auto values = first_columns(heard);
                      snapshot_ = values.empty() ? std::nullopt : values[0];
                    }});
  steps_.push_back({[this, row] { say_read(row); },
                    [this, row](const Heard& heard) {
                      const auto values = first_columns(heard);
                      if (!values.empty() && snapshot_) {
                        judge_.read_own(row, *snapshot_, values[0]);
                      }
                    }});
  steps_.push_back(control("COMMIT"));
}

void Actor::read_pipelined() {
  const std::vector<int64_t> rows = {any_row(), any_row(), any_row()};
  Step step;
  step.readies = static_cast<int>(rows.size());
  step.say = [this, rows] {
    sent_ = judge_.now();
    for (const int64_t row : rows) say_read(row);
  };
  step.hear = [this, rows](const Heard& heard) { judge_rows(heard, rows, sent_); };
  steps_.push_back(std::move(step));
}

void Actor::read_in_one_segment() {
  const std::vector<int64_t> rows = {any_row(), any_row()};
  steps_.push_back({[this, rows] {
                      sent_ = judge_.now();
                      for (const int64_t row : rows) {
                        client_.parse("", select_text(row)).bind("", "");
                        if (random_.one_in(2)) client_.describe('P', "");
                        client_.execute();
                      }
                      client_.sync();
                    },
                    [this, rows](const Heard& heard) { judge_rows(heard, rows, sent_); }});
}

void Actor::read_sum() {
  steps_.push_back({[this] {
                      sent_ = judge_.now();
                      client_.query("SELECT count(*), sum(v) FROM bench");
                    },
                    [this](const Heard& heard) {
                      for (const WireClient::Message& message : heard) {
                        if (message.type != 'D') continue;
                        const auto numbers = numbers_of(message);
                        judge_.read_sum(numbers[0].value_or(0), numbers[1].value_or(0),
                                        options_.proxy, sent_);
                      }
                    }});
}

void Actor::change_setting() {
  steps_.push_back(control(random_.one_in(2) ? "SET DateStyle = German" : "SET DateStyle = ISO"));
}

// ── Writing ──────────────────────────────────────────────────────────────────────────────────────

Actor::Step Actor::control(const std::string& sql) {
  return {[this, sql] { client_.query(sql); }, [](const Heard&) {}};
}

// Another table, which nobody writes: nothing is open there, whatever the block has done.
Actor::Step Actor::reading_side() {
  return {[this] { client_.query("SELECT v FROM side WHERE id = 1"); },
          [this](const Heard& heard) {
            const auto values = first_columns(heard);
            if (!values.empty() && values[0] != kSideValue) judge_.violation("side has changed");
          }};
}

void Actor::begin_version() {
  version_ = judge_.begin_write(*options_.writes_row);
  undecided_ = false;
  failed_ = false;
}

// The condition keeps a statement that was stuck in a lost connection from overtaking a later one.
void Actor::say_update() {
  const std::string v = std::to_string(*version_);
  const std::string id = std::to_string(*options_.writes_row);
  if (random_.one_in(2)) {
    client_.query("UPDATE bench SET v = " + v + " WHERE id = " + id + " AND v < " + v);
  } else {
    client_.parse("", "UPDATE bench SET v = $1 WHERE id = $2 AND v < $3");
    client_.bind("", "", {v, id, v}).execute().sync();
  }
}

// The same by a function that a SELECT calls.
void Actor::say_write() {
  if (!random_.one_in(4)) {
    say_update();
    return;
  }
  ++functions_wrote_;
  const std::string v = std::to_string(*version_);
  const std::string id = std::to_string(*options_.writes_row);
  if (random_.one_in(2)) {
    client_.query("SELECT raise_v(" + id + ", " + v + ")");
  } else {
    client_.parse("", "SELECT raise_v($1, $2)").bind("", "", {id, v});
    client_.describe('P', "").execute().sync();
  }
}

void Actor::acknowledge() {
  judge_.acknowledged(*options_.writes_row, *version_, options_.proxy);
  version_.reset();
}

void Actor::abort() {
  judge_.aborted(*options_.writes_row, *version_);
  version_.reset();
}

void Actor::write_once() {
  steps_.push_back({[this] {
                      begin_version();
                      undecided_ = true;
                      say_write();
                    },
                    [this](const Heard& heard) { take_write(heard); }});
  if (random_.one_in(2)) steps_.push_back(reading(*options_.writes_row));
}

// The end of a write of its own transaction.
void Actor::take_write(const Heard& heard) {
  if (has_written(heard) && !has(heard, 'E')) {
    acknowledge();
  } else {
    abort();
  }
}

// BEGIN; UPDATE; own read; COMMIT or ROLLBACK.
void Actor::write_in_block() {
  const int64_t row = *options_.writes_row;
  steps_.push_back(control("BEGIN"));
  if (random_.one_in(2)) steps_.push_back(reading(any_row()));
  steps_.push_back({[this] {
                      begin_version();
                      say_write();
                    },
                    [this](const Heard& heard) { failed_ = !has_written(heard); }});
  steps_.push_back({[this, row] { say_read(row); },
                    [this, row](const Heard& heard) {
                      const auto values = first_columns(heard);
                      if (!failed_) {
                        judge_.read_own(row, *version_, values.empty() ? std::nullopt : values[0]);
                      }
                    }});
  if (random_.one_in(3)) steps_.push_back(reading_side());
  const bool commits = !random_.one_in(3);
  steps_.push_back({[this, commits] {
                      undecided_ = commits;
                      client_.query(commits ? "COMMIT" : "ROLLBACK");
                    },
                    [this](const Heard& heard) {
                      if (has_tag(heard, "COMMIT") && !failed_) {
                        acknowledge();
                      } else {
                        abort();
                      }
                    }});
  if (random_.one_in(2)) steps_.push_back(reading(row));
}

// BEGIN; SAVEPOINT; UPDATE; ROLLBACK TO; COMMIT: its notice opened a slot, its event never comes.
void Actor::write_behind_savepoint() {
  const int64_t row = *options_.writes_row;
  steps_.push_back(control("BEGIN"));
  steps_.push_back(control("SAVEPOINT s"));
  steps_.push_back({[this] {
                      begin_version();
                      say_write();
                    },
                    [](const Heard&) {}});
  steps_.push_back(control("ROLLBACK TO s"));
  steps_.push_back(reading(row));
  ++savepoints_undone_;
  steps_.push_back({[this] { client_.query("COMMIT"); }, [this](const Heard&) { abort(); }});
}

// One segment: [UPDATE; SELECT]; or two messages without waiting in between.
void Actor::write_and_read_pipelined() {
  const int64_t row = *options_.writes_row;
  const bool segment = random_.one_in(2);
  Step step;
  step.readies = segment ? 1 : 2;
  step.say = [this, row, segment] {
    begin_version();
    undecided_ = true;
    if (segment) {
      const std::string v = std::to_string(*version_);
      client_.parse("", "UPDATE bench SET v = $1 WHERE id = $2 AND v < $3");
      client_.bind("", "", {v, std::to_string(row), v}).execute();
      client_.parse("", select_text(row)).bind("", "").execute().sync();
    } else {
      say_update();
      client_.query(select_text(row));
    }
  };
  step.hear = [this, row](const Heard& heard) {
    const auto values = first_columns(heard);
    if (has_tag(heard, "UPDATE 1") && !has(heard, 'E')) {
      judge_.read_own(row, *version_, values.empty() ? std::nullopt : values[0]);
    }
    take_write(heard);
  };
  steps_.push_back(std::move(step));
  steps_.push_back(reading(row));
}

// [UPDATE; SELECT of it; a statement that fails] in one segment.
void Actor::write_and_fail() {
  const int64_t row = *options_.writes_row;
  steps_.push_back({[this, row] {
                      begin_version();
                      const std::string v = std::to_string(*version_);
                      client_.parse("", "UPDATE bench SET v = $1 WHERE id = $2 AND v < $3");
                      client_.bind("", "", {v, std::to_string(row), v}).execute();
                      client_.parse("", select_text(row)).bind("", "");
                      client_.describe('P', "").execute();
                      client_.parse("", select_text(options_.rows + 1)).bind("", "").execute();
                      client_.sync();
                    },
                    [this](const Heard&) { abort(); }});
  steps_.push_back(reading(row));
}

}  // namespace pgfresh::sim
