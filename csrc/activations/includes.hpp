// What the passes need of the standard library, before any path says for which instructions it compiles.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "activations.hpp"

#if !defined(__clang__) && defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors as arguments: all of these functions are inlined
#endif
