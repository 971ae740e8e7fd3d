#include "../bindings.hpp"

#include "trellis.hpp"

namespace golf {
namespace {

void quantize(uintptr_t weights, uintptr_t steps, uintptr_t shrink, uint64_t matrices, uint64_t rows, uint64_t cols,
              int states, uintptr_t values, int threads) {
    pybind11::gil_scoped_release release;
    const trellis::Problem problem{reinterpret_cast<const float*>(weights), reinterpret_cast<const float*>(steps),
                                   reinterpret_cast<const double*>(shrink), matrices, rows, cols};
    trellis::quantize(problem, states, reinterpret_cast<int8_t*>(values), threads);
}

}  // namespace

void bind_trellis(pybind11::module_& module) {
    namespace py = pybind11;
    module.def("trellis_quantize", &quantize, py::arg("weights"), py::arg("steps"), py::arg("shrink"),
               py::arg("matrices"), py::arg("rows"), py::arg("cols"), py::arg("states"), py::arg("values"),
               py::arg("threads") = 1,
               "Write the int8 [matrices, rows, cols] of least error whose columns are paths of the trellis; `shrink` may be 0.");
}

}  // namespace golf
