// The second control connection of a database: everything the feed must not wait for. It reads the
// catalog, polls its fingerprint, publishes schema events, looks for backends of lost connections,
// at the transactions that are running and at the NOTIFY queue. It says first which PostgreSQL it
// has come to: nothing is asked of one that is not the feed's. One statement at a time, the most
// urgent first; each wish is a flag, so there is no queue to grow.
//
// Decides nothing about freshness: what it has read goes to its owner, with the token of schema(D)
// in force when the reading began.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "freshness/alarm.h"
#include "freshness/line.h"
#include "freshness/settle.h"
#include "freshness/vigil.h"

namespace pgfresh::freshness {

class CatalogWatch final : private Line::Owner {
 public:
  enum class Installed : uint8_t { kNo, kYes };

  class Owner {
   public:
    virtual ~Owner() = default;
    [[nodiscard]] virtual uint64_t schema_token() const = 0;
    // The catalog as it was at some moment after schema_token() was `token`.
    virtual void on_catalog_read(const SqlRows& rows, uint64_t token) = 0;
    virtual void on_catalog_failed(std::string_view why) = 0;
    // The fingerprint is not the one before; where a reading of the catalog found it, its
    // on_catalog_read follows. `schema_events` is what schema_events() gave when it was asked for.
    virtual void on_fingerprint_changed(uint64_t schema_events) = 0;
    [[nodiscard]] virtual uint64_t schema_events() const = 0;
    // Settings and privileges may have changed behind the sessions' backs.
    virtual void on_settings_changed() = 0;
    // The schema event is committed: its notification comes before the end of any fence begun
    // from now on. `slots` waited for it.
    virtual void on_published(SlotBatch& slots) = 0;
    virtual void on_publish_failed(std::string_view why, SlotBatch& slots) = 0;
    // Some backends were found gone; settlement() may have slots for the next fence.
    virtual void on_backends_looked_for() = 0;
    // What a look begun at `begun_ns` found; own_backends() are left out of it.
    virtual void on_transactions(int64_t begun_ns, const Running& running) = 0;
    [[nodiscard]] virtual std::vector<uint32_t> own_backends() const = 0;
    // Those of them whose transactions the look that is begun now is to tell all the same.
    [[nodiscard]] virtual std::vector<uint32_t> backends_to_look_for(int64_t begun_ns) = 0;
    // How full the NOTIFY queue is, 0 to 1; -1: that may not be asked.
    virtual void on_notify_queue(double usage) = 0;
    // It has come to a PostgreSQL, server().
    virtual void on_watch_ready() = 0;
    virtual void on_watch_lost(std::string_view why) = 0;
  };

  CatalogWatch(const std::string& database, Loop& loop, SqlClientFactory& factory,
               const std::function<uint64_t()>& random64, Settlement& settlement, Owner& owner);

  void start() { line_.start(); }
  // Until start(). What was to be published stays so; readings are no longer wanted.
  void stop();
  void set_backoff(const Line::Backoff& backoff) { line_.set_backoff(backoff); }
  // Which PostgreSQL the connection leads to (kServerStartedSql); 0: it has not said.
  [[nodiscard]] uint64_t server() const { return server_; }
  // Ends this connection as if it were lost. REQUIRES: started.
  void drop(std::string_view why) { line_.drop(why); }
  // Called every few hundred milliseconds: gives up on a silent server.
  void tick();

  // Reads the catalog, beginning after the present turn of the loop. Readings take at most half
  // of this connection's time, however many schema events come.
  void request_load();
  void cancel_load() { load_wanted_ = false; }
  [[nodiscard]] bool loading() const { return loading_ || load_wanted_; }
  // Compares the fingerprint with the last one.
  void request_poll() {
    poll_wanted_ = true;
    pump();
  }
  // The schema pgfresh was not there when the catalog was read: polls look for it, and when they
  // find it, they read the catalog.
  void set_installed(Installed installed) { installed_ = installed; }
  void publish(SlotBatch& slots);
  // Looks at the running transactions, the settlement's prepared ones among them. A look that
  // fails tells nobody: it is wanted again.
  void look_at_transactions() {
    transactions_wanted_ = true;
    pump();
  }
  // Asks how full the NOTIFY queue is, which also has PostgreSQL give back what all listeners have
  // read (asyncQueueAdvanceTail). Of itself only a commit that notifies does so, and in a full
  // queue none succeeds: it would stay full when whoever held it up is gone.
  void look_at_queue() {
    queue_wanted_ = true;
    pump();
  }
  // The settlement waits for one more backend.
  void look_for_backends();

  // When the last successful look at the fingerprint was begun; 0: never.
  [[nodiscard]] int64_t looked_ns() const { return looked_ns_; }
  [[nodiscard]] int64_t unpublished() const {
    return to_publish_.transactions() + publishing_.transactions();
  }
  [[nodiscard]] uint64_t loads() const { return loads_; }
  [[nodiscard]] int64_t load_ns_last() const { return load_ns_last_; }

 private:
  // A look at the fingerprint, and what held when it was begun.
  struct Reading {
    int64_t begun_ns = 0;
    uint64_t token = 0;
    uint64_t schema_events = 0;
    std::string fingerprint;
  };

  void on_line_ready(Line& line) override;
  void on_line_notification(Line& line, std::string_view channel, std::string_view payload,
                            uint32_t sender) override;
  void on_line_lost(Line& line, std::string_view why) override;

  void void_statement();
  void pump();
  void wake_when_due();
  void send_publication();
  void send_look();
  void send_transactions();
  void send_load();
  void send_load_second_half(const Reading& reading);
  void load_ended(const Reading& reading);
  void send_poll();
  void send_queue_look();
  [[nodiscard]] Reading begin_reading() const;
  void take_fingerprint(const Reading& reading);

  Loop& loop_;
  Settlement& settlement_;
  Owner& owner_;
  Line line_;
  Alarm wake_;
  uint64_t server_ = 0;

  bool load_wanted_ = false;
  bool loading_ = false;
  int64_t load_not_before_ns_ = 0;
  bool poll_wanted_ = false;
  bool transactions_wanted_ = false;
  bool queue_wanted_ = false;
  Installed installed_ = Installed::kYes;
  bool publish_wanted_ = false;
  bool publishing_under_way_ = false;
  SlotBatch to_publish_;
  SlotBatch publishing_;
  int64_t look_due_ns_ = 0;
  int64_t look_delay_ms_ = 0;

  std::string fingerprint_;  // the last one seen; empty: none yet
  int64_t looked_ns_ = 0;
  uint64_t loads_ = 0;
  int64_t load_ns_last_ = 0;
};

}  // namespace pgfresh::freshness
