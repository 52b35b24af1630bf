#include "app/console_backend.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "app/console_flush.h"
#include "app/console_reports.h"
#include "app/daemon.h"
#include "app/version.h"
#include "console/reports.h"
#include "console/tables.h"

namespace pgfresh::app {
namespace {

console::ClientRow client_row(const Daemon& daemon, const proxy::SessionInfo& info) {
  console::ClientRow row;
  row.id = info.id;
  row.user = info.user;
  row.database = info.database;
  row.state = info.state;
  row.peer = info.peer;
  row.connected_unix_s = daemon.unix_seconds_at(info.connected_ns);
  row.requested_unix_s = daemon.unix_seconds_at(info.active_ns);
  row.queries = info.queries;
  row.hits = info.hits;
  row.server_id = info.has_server ? info.id : 0;
  row.remote_pid = info.server_pid;
  row.encrypted = false;
  row.application_name = info.application;
  return row;
}

// Session pooling: the server connection has the number of the session that borrows it.
console::ServerRow server_row(const Daemon& daemon, const proxy::SessionInfo& info) {
  console::ServerRow row;
  row.id = info.id;
  row.user = info.user;
  row.database = info.database;
  row.state = info.state == "active" ? "active" : "idle";
  row.peer = info.server_peer;
  row.connected_unix_s = daemon.unix_seconds_at(info.connected_ns);
  row.requested_unix_s = daemon.unix_seconds_at(info.active_ns);
  row.client_id = info.id;
  row.remote_pid = info.server_pid;
  row.encrypted = info.server_encrypted;
  return row;
}

}  // namespace

ConsoleBackend::Done ConsoleBackend::at_home(Done done) {
  Loop* home = &home_;
  return [home, done = std::move(done)](console::Outcome outcome) {
    auto shared = std::make_shared<console::Outcome>(std::move(outcome));
    home->post([done, shared] { done(std::move(*shared)); });
  };
}

void ConsoleBackend::on_control(std::function<void()> task) {
  daemon_.control().post(std::move(task));
}

void ConsoleBackend::show_sessions(console::Verb verb, Done done) {
  Daemon* daemon = &daemon_;
  daemon_.gather_sessions(
      [daemon, verb, done = std::move(done)](const std::vector<proxy::SessionInfo>& infos) {
        if (verb == console::Verb::kShowClients) {
          std::vector<console::ClientRow> rows;
          for (const auto& info : infos) rows.push_back(client_row(*daemon, info));
          done(console::clients_table(rows));
          return;
        }
        std::vector<console::ServerRow> rows;
        for (const auto& info : infos) {
          if (info.has_server) rows.push_back(server_row(*daemon, info));
        }
        done(console::servers_table(rows));
      });
}

void ConsoleBackend::reload(const Done& done) {
  const Daemon::Reloaded reloaded = daemon_.reload();
  if (!reloaded.error.empty()) {
    return done(console::Failure{"F0000", reloaded.error, "the old settings stay in force"});
  }
  std::string names;
  for (const std::string& name : reloaded.needing_restart) {
    names += (names.empty() ? "" : ", ") + name;
  }
  done(console::Done{"RELOAD",
                     names.empty() ? "" : "changed, and in force after a restart only: " + names});
}

void ConsoleBackend::run(const console::Command& command, Done asked_done) {
  Done done = at_home(std::move(asked_done));
  Daemon* daemon = &daemon_;
  using console::Verb;
  switch (command.verb) {
    case Verb::kShowVersion:
      done(console::version_table(kVersion));
      return;
    case Verb::kShowStats:
      done(console::stats_table({{"all", daemon->totals()}}));
      return;
    case Verb::kShowCache:
      done(console::cache_table(daemon->cache_mode() == proxy::CacheMode::kOn
                                    ? console::CacheState::kOn
                                    : console::CacheState::kOff,
                                daemon->store().stats(), daemon->totals()));
      return;
    case Verb::kShowClients:
    case Verb::kShowServers:
      show_sessions(command.verb, std::move(done));
      return;
    case Verb::kShowTables:
      on_control([daemon, done] {
        std::vector<console::CatalogOf> catalogs;
        for (const freshness::Domain* domain : daemon->domains().all()) {
          catalogs.push_back(
              {domain->database(), domain->catalog(), &domain->writes(), daemon->unix_offset_ns()});
        }
        done(console::tables_table(catalogs));
      });
      return;
    case Verb::kShowFeeds:
      on_control([daemon, done] {
        done(console::feeds_table(daemon->domains().status(), daemon->options().feed.publish));
      });
      return;
    case Verb::kShowRedis:
      daemon->gather_redis(
          [done](const std::vector<console::RedisRow>& rows) { done(console::redis_table(rows)); });
      return;
    case Verb::kShowConfig:
      on_control([daemon, done] { done(console::config_table(config_rows(daemon->options()))); });
      return;
    case Verb::kShowQueries:
    case Verb::kShowQueriesAll: {
      const auto shown =
          command.verb == Verb::kShowQueries ? console::Shown::kFirst100 : console::Shown::kAll;
      daemon->gather_queries([daemon, done, shown](const QuerySums& sums) {
        const auto unix_s = [daemon](int64_t ns) { return daemon->unix_seconds_at(ns); };
        done(console::queries_table(query_rows(sums, unix_s), shown));
      });
      return;
    }
    case Verb::kExplainCache:
      explain_cache(*daemon, home_, command, std::move(done));
      return;
    case Verb::kDoctor:
      run_doctor(*daemon, command, std::move(done));
      return;
    case Verb::kSetCacheOn:
    case Verb::kSetCacheOff: {
      const auto mode =
          command.verb == Verb::kSetCacheOn ? proxy::CacheMode::kOn : proxy::CacheMode::kOff;
      on_control([daemon, done, mode] {
        daemon->set_cache_mode(mode);
        done(console::Done{"SET"});
      });
      return;
    }
    case Verb::kFlushAll:
      on_control([daemon, done] { flush_all(*daemon, done); });
      return;
    case Verb::kFlushQuery:
      on_control([daemon, done, id = command.id] { flush_query(*daemon, id, done); });
      return;
    case Verb::kFlushTable:
      on_control([daemon, done, table = command.table] { flush_table(*daemon, table, done); });
      return;
    case Verb::kReload:
      on_control([this, done] { reload(done); });
      return;
    case Verb::kKill:
      daemon->kill_session(command.id, [done, id = command.id](bool found) {
        if (found) {
          done(console::Done{"KILL"});
        } else {
          done(console::Failure{"42704", "no client has the id " + std::to_string(id),
                                "SHOW CLIENTS"});
        }
      });
      return;
    case Verb::kShutdown:
    case Verb::kShutdownWait: {
      done(console::Done{"SHUTDOWN"});
      const auto ending =
          command.verb == Verb::kShutdown ? Daemon::Ending::kNow : Daemon::Ending::kDrain;
      // After the answer: it travels home, and then out.
      home_.post(
          [daemon, ending] { daemon->control().post([daemon, ending] { daemon->end(ending); }); });
      return;
    }
    default:
      done(console::Failure{"0A000", "not in this version", ""});
  }
}

}  // namespace pgfresh::app
