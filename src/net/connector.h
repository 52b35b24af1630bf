// Connector over libuv: one for each worker, all reading the same Upstream.
//
// One attempt: resolve the name; for each address: connect, ask for TLS as sslmode says, shake
// hands. The first success ends it; the errors of all addresses are told together, as libpq does.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "net/tls_context.h"
#include "net/upstream.h"
#include "net/uv_loop.h"
#include "pgfresh/stream.h"

namespace pgfresh::net {

// The server and the certificates for it: read once, shared by all workers, immutable.
struct Upstream {
  UpstreamTarget target;
  std::shared_ptr<const TlsContext> tls;  // null where TLS is never used

  // Parses the URL and reads the certificate files; the error is one line.
  [[nodiscard]] static tl::expected<std::shared_ptr<const Upstream>, std::string> open(
      const std::string& url);
};

class UpstreamConnector final : public Connector {
 public:
  // REQUIRES: the loop outlives the connector, its attempts and its streams.
  UpstreamConnector(UvLoop& loop, std::shared_ptr<const Upstream> upstream);

  [[nodiscard]] std::unique_ptr<PendingConnect> connect(Done done) override;
  // For the attempts from now on; the loop's thread.
  void set_upstream(std::shared_ptr<const Upstream> upstream) { upstream_ = std::move(upstream); }

 private:
  UvLoop& loop_;
  std::shared_ptr<const Upstream> upstream_;
};

}  // namespace pgfresh::net
