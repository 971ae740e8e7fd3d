// golf_fast._C, the extension module. It takes addresses, sizes and a stream, and knows nothing of torch: who owns the
// memory and whether an address is good is checked in Python, by golf_fast/ops/*/native.py.
#include "bindings.hpp"

#ifdef GOLF_CUDA
#include <cuda_runtime_api.h>
#endif

namespace py = pybind11;

namespace {

py::dict build_info() {
    py::dict info;
    info["compiler"] = GOLF_COMPILER;
    info["cuda"] = py::none();
    info["cuda_archs"] = py::list();
    info["cuda_note"] = GOLF_CUDA_NOTE;
#ifdef GOLF_CUDA
    info["cuda"] = GOLF_CUDA;
    info["cuda_archs"] = py::str(GOLF_CUDA_ARCHS).attr("split")(",");
#endif
    return info;
}

#ifdef GOLF_CUDA
py::tuple cuda_error(int code) {
    const cudaError_t error = static_cast<cudaError_t>(code);
    return py::make_tuple(cudaGetErrorName(error), cudaGetErrorString(error));
}
#endif

}  // namespace

PYBIND11_MODULE(_C, module) {
    module.doc() = "C++ and CUDA kernels of golf_fast. Functions take addresses and check nothing; use golf_fast.ops.";
    module.def("build_info", &build_info,
               "What this was built by and for: compiler, cuda (version or None), cuda_archs, cuda_note (which, or why none).");
#ifdef GOLF_CUDA
    module.def("cuda_error", &cuda_error, py::arg("code"), "Name and description of a cudaError_t.");
#endif
    golf::bind_activations(module);
    golf::bind_bitpack(module);
    golf::bind_rans(module);
    golf::bind_trellis(module);
}
