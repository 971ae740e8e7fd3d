// Structure of a matrix of integers besides the scales of its rows and columns: columns that are paths of a trellis, and
// rows that resemble one another.
#pragma once

#include <cstdint>
#include <vector>

#include "rans.hpp"

namespace golf::rans {

// Number of states of the trellis that every column is a path of: 8 or 4; 0 if there is none, or no value is odd.
int states_of(const int8_t* values, Shape shape);

// Rows that resemble one another: their mean, the template, and a 1 for each row that is a member.
struct Alike {
    std::vector<int8_t> template_row;  // [cols]; empty if there are none
    std::vector<int8_t> members;       // [rows]
};
Alike alike_rows(const int8_t* values, Shape shape);

// The values, in the rows that are members minus the template, modulo 256.
std::vector<int8_t> residuals(const int8_t* values, Shape shape, const Alike& alike);

}  // namespace golf::rans
