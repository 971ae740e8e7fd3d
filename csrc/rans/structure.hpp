// What a matrix of integers may have beside scales: columns that follow a trellis, rows that are alike.
#pragma once

#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace golf::rans {

// The states of the trellis that every column is a path of: 8, 4, or 0 if there is none, or no value is odd.
int states_of(const int8_t* values, Shape shape);

// Rows that resemble one another: their mean, and which they are.
struct Alike {
    std::vector<int8_t> template_row;  // [cols]; empty if there are none
    std::vector<int8_t> members;       // [rows]
};
Alike alike_rows(const int8_t* values, Shape shape);

// values less the template in the rows that are members, modulo 256.
std::vector<int8_t> residuals(const int8_t* values, Shape shape, const Alike& alike);

}  // namespace golf::rans
