#include "../bindings.hpp"

#include "trellis.hpp"

namespace golf {
namespace {

void quantize(uintptr_t weights, uintptr_t steps, uintptr_t shrink, uint64_t matrices, uint64_t rows, uint64_t cols,
              int states, uintptr_t values, int threads) {
    pybind11::gil_scoped_release release;
    const trellis::Problem problem{
        at<const float>(weights), at<const float>(steps), at<const double>(shrink), matrices, rows, cols};
    trellis::quantize(problem, states, at<int8_t>(values), threads);
}

void quantize_block(uintptr_t weights, uintptr_t factor, uintptr_t steps, uintptr_t shrink, uint64_t matrices,
                    uint64_t width, uint64_t rows, int states, uintptr_t values, uintptr_t errors, int threads) {
    pybind11::gil_scoped_release release;
    const trellis::Block block{at<float>(weights),       at<const float>(factor), at<const float>(steps),
                               at<const double>(shrink), matrices,                width,
                               rows};
    trellis::quantize_block(block, states, at<int8_t>(values), at<float>(errors), threads);
}

}  // namespace

void bind_trellis(pybind11::module_& module) {
    namespace py = pybind11;
    module.def("trellis_quantize", &quantize, py::arg("weights"), py::arg("steps"), py::arg("shrink"),
               py::arg("matrices"), py::arg("rows"), py::arg("cols"), py::arg("states"), py::arg("values"),
               py::arg("threads") = 1,
               "Write the int8 [matrices, rows, cols] of least error whose columns are paths of the trellis; `shrink` may be 0.");
    module.def("trellis_quantize_block", &quantize_block, py::arg("weights"), py::arg("factor"), py::arg("steps"),
               py::arg("shrink"), py::arg("matrices"), py::arg("width"), py::arg("rows"), py::arg("states"),
               py::arg("values"), py::arg("errors"), py::arg("threads") = 1,
               "The same for a block of columns under GPTQ, [matrices, width, rows]; changes the weights.");
}

}  // namespace golf
