#include "../bindings.hpp"

#include <stdexcept>
#include <string>

#include "activations.hpp"
#include "threads.hpp"

namespace golf {
namespace {

using activations::bf16;
using activations::Passes;
using activations::Path;

// Rows that a thread takes at a time.
constexpr int64_t kRows = 32;

template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

pybind11::list path_names() {
    pybind11::list names;
    for (const Path* const* path = activations::paths(); *path; path++) names.append((*path)->name);
    return names;
}

// The fastest path, or the named one.
const Path& path_called(const std::string& name) {
    const Path* chosen = nullptr;
    for (const Path* const* path = activations::paths(); *path; path++) {
        if (name.empty() || name == (*path)->name) chosen = *path;
    }
    if (!chosen) throw std::invalid_argument("activations path " + name + ": not one that this CPU can run");
    return *chosen;
}

template <typename T>
const Passes<T>& passes_of(const Path& path);
template <>
const Passes<float>& passes_of<float>(const Path& path) {
    return path.float32;
}
template <>
const Passes<bf16>& passes_of<bf16>(const Path& path) {
    return path.bfloat16;
}

template <typename Work>
void over_rows(int64_t rows, int threads, const Work& work) {
    const int64_t parts = (rows + kRows - 1) / kRows;
    activations::share_out(parts, threads, [&](int64_t part) {
        work(part * kRows, (part + 1) * kRows < rows ? (part + 1) * kRows : rows);
    });
}

template <typename T>
void head(uintptr_t logits, uintptr_t targets, uintptr_t losses, int64_t rows, int64_t vocabulary, float softcap,
          bool gradient, int threads, const std::string& path) {
    const Passes<T>& passes = passes_of<T>(path_called(path));
    const activations::Head<T> head{at<T>(logits), at<const int64_t>(targets), at<float>(losses),
                                    vocabulary,    softcap,                    gradient};
    over_rows(rows, threads, [&](int64_t begin, int64_t end) { passes.head(head, begin, end); });
}

}  // namespace

void bind_activations(pybind11::module_& module) {
    namespace py = pybind11;
    using release = py::call_guard<py::gil_scoped_release>;
    using py::arg;
    module.def("activations_paths", &path_names, "Instruction sets that this CPU can run, slowest first.");
    module.def("activations_has_threads", &activations::has_threads,
               "Whether passes share their rows out: an OpenMP runtime is in the process.");
    module.def("softcap_cross_entropy_float32", &head<float>, release(), arg("logits"), arg("targets"), arg("losses"),
               arg("rows"), arg("vocabulary"), arg("softcap"), arg("gradient"), arg("threads"), arg("path") = "");
    module.def("softcap_cross_entropy_bfloat16", &head<bf16>, release(), arg("logits"), arg("targets"), arg("losses"),
               arg("rows"), arg("vocabulary"), arg("softcap"), arg("gradient"), arg("threads"), arg("path") = "");
}

}  // namespace golf
