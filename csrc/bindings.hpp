// For each kernel family (a folder of csrc/) the function that adds its functions to the module, and the helpers that
// these functions share.
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

// The pointer for an address that Python passes as an integer; 0 becomes a null pointer.
template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

// The names of the paths of a kernel family, in their order; `paths` ends with a nullptr.
template <typename Path>
pybind11::list names_of(const Path* const* paths) {
    pybind11::list names;
    for (; *paths; paths++) names.append((*paths)->name);
    return names;
}

// The named path of a family, or, for "", the last one, which is the fastest.
//
// Throws std::invalid_argument for a path that this CPU cannot run.
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
