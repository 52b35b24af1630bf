// What a run of the simulation may be told from outside: PGFRESH_SIM_SEED and the like.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace pgfresh::sim {

[[nodiscard]] inline uint64_t number_from_environment(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

}  // namespace pgfresh::sim
