// What the plays ask of the table `bench` (fake_database.h), and what is answered, in WireClient's
// words.
#pragma once

namespace pgfresh::sim {

inline constexpr const char* kOne = "SELECT v FROM bench WHERE id = 1";
inline constexpr const char* kTwo = "SELECT v FROM bench WHERE id = 2";
inline constexpr const char* kByParameter = "SELECT v FROM bench WHERE id = $1";
inline constexpr const char* kUpdateOne = "UPDATE bench SET v = 11 WHERE id = 1";
inline constexpr const char* kOld = "T:v D:10 C:SELECT 1 Z:I";     // to kOne
inline constexpr const char* kOldTwo = "T:v D:20 C:SELECT 1 Z:I";  // to kTwo
inline constexpr const char* kNew = "T:v D:11 C:SELECT 1 Z:I";     // to kOne, behind kUpdateOne

}  // namespace pgfresh::sim
