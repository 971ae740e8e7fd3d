#include "../bindings.hpp"

#include "rans.hpp"

namespace golf {
namespace {

pybind11::bytes encode(uintptr_t values, uint64_t rows, uint64_t cols, int bits) {
    std::vector<uint8_t> blob;
    {
        pybind11::gil_scoped_release release;
        blob = rans::encode(at<const int8_t>(values), {rows, cols}, bits);
    }
    return {reinterpret_cast<const char*>(blob.data()), blob.size()};
}

void decode(uintptr_t blob, size_t size, uintptr_t values, uint64_t count) {
    pybind11::gil_scoped_release release;
    rans::decode(at<const uint8_t>(blob), size, at<int8_t>(values), count);
}

}  // namespace

void bind_rans(pybind11::module_& module) {
    namespace py = pybind11;
    py::register_exception<rans::Malformed>(module, "RansMalformed", PyExc_ValueError);
    module.def("rans_encode", &encode, py::arg("values"), py::arg("rows"), py::arg("cols"), py::arg("bits"),
               "The blob of rows * cols int8 values at an address.");
    module.def("rans_decode", &decode, py::arg("blob"), py::arg("size"), py::arg("values"), py::arg("count"),
               "Write the values of a blob, which must hold `count` of them.");
}

}  // namespace golf
