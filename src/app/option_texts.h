// The values of options that are no numbers: what is allowed, and where they go. For
// option_table.cc.
#pragma once

#include <string>

#include "app/option_table.h"

namespace pgfresh::app {

// A value in quotes. What stands in front of an @ may be a login, whatever option it was given to.
[[nodiscard]] std::string quoted(const std::string& value);
// "name:password" without the password.
[[nodiscard]] std::string user_name(const std::string& user);

// Each: empty, or what is wrong. REQUIRES: of one value, but for lists, there is one item.
[[nodiscard]] std::string put_listen_tcp(Options& options, const Texts& items);
[[nodiscard]] std::string put_listen_unix(Options& options, const Texts& items);
[[nodiscard]] std::string put_listen_http(Options& options, const Texts& items);
[[nodiscard]] std::string put_upstream(Options& options, const Texts& items);
[[nodiscard]] std::string put_redis_url(Options& options, const Texts& items);
[[nodiscard]] std::string put_redis_prefix(Options& options, const Texts& items);
[[nodiscard]] std::string put_key_file(Options& options, const Texts& items);
[[nodiscard]] std::string put_log_file(Options& options, const Texts& items);
[[nodiscard]] std::string check_users(const Texts& items);
[[nodiscard]] std::string check_peers(const Texts& items);

// "none" for an empty text.
[[nodiscard]] Texts one_or_none(const std::string& text);

}  // namespace pgfresh::app
