// One function for each kernel family (a folder of csrc/), which adds the family's functions to the module, and what
// several of them need for it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace golf {

void bind_activations(pybind11::module_& module);
void bind_bitpack(pybind11::module_& module);
void bind_rans(pybind11::module_& module);
void bind_trellis(pybind11::module_& module);

// An address as it comes from Python.
template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// The names of a family's paths, which end with a nullptr.
template <typename Path>
pybind11::list names_of(const Path* const* paths) {
    pybind11::list names;
    for (; *paths; paths++) names.append((*paths)->name);
    return names;
}

// The last of a family's paths, which is the fastest, or the named one.
template <typename Path>
const Path& path_of(const Path* const* paths, const std::string& family, const std::string& name) {
    const Path* chosen = nullptr;
    for (; *paths; paths++) {
        if (name.empty() || name == (*paths)->name) chosen = *paths;
    }
    if (!chosen) throw std::invalid_argument(family + " path " + name + ": not one that this CPU can run");
    return *chosen;
}

}  // namespace golf
