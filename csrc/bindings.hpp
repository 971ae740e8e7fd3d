// One function for each kernel family (a folder of csrc/), which adds the family's functions to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace golf {

void bind_activations(pybind11::module_& module);
void bind_bitpack(pybind11::module_& module);
void bind_rans(pybind11::module_& module);
void bind_trellis(pybind11::module_& module);

}  // namespace golf
