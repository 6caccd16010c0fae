# nrc_fast._cuda: static cudart, nothing of torch, cuBLAS or the driver is linked, so that it loads everywhere.
set(cuda_kernels column_sums descent gram gram_direct gram_finalize gram_tensor planes products residual row_norms)

# The same kernels for the host, on an emulated device: for the tests, not for use.
if(NRC_FAST_CUDA_EMULATION)
  set(emulated "")
  foreach(kernel IN LISTS cuda_kernels)
    set(source ${CMAKE_CURRENT_BINARY_DIR}/emulation/${kernel}.cpp)
    file(CONFIGURE OUTPUT ${source} CONTENT "#include \"cuda/${kernel}.cu\"\n")
    list(APPEND emulated ${source})
  endforeach()
  pybind11_add_module(_cuda_emulation MODULE NO_EXTRAS csrc/cuda/emulation/module.cpp csrc/cuda/emulation/runtime.cpp
                                              csrc/cuda/bindings.cpp ${emulated})
  target_include_directories(_cuda_emulation PRIVATE csrc)
  # Shared memory of a block holds numbers of several types, as it does on a device. Fibers jump between stacks, which
  # the checks of fortified builds take for an error.
  target_compile_options(_cuda_emulation PRIVATE -O3 -fno-strict-aliasing -U_FORTIFY_SOURCE -Wall -Wextra
                                                   -Wno-unknown-pragmas)
  if(NRC_FAST_WERROR)
    target_compile_options(_cuda_emulation PRIVATE -Werror)
  endif()
  target_compile_definitions(
    _cuda_emulation PRIVATE NRC_FAST_CUDA_EMULATION NRC_FAST_VERSION="${PROJECT_VERSION}"
                            NRC_FAST_CUDA_ARCHITECTURES="" NRC_FAST_CUDA_PTX="" NRC_FAST_CUDA_COMPILER="emulation")
  install(TARGETS _cuda_emulation DESTINATION nrc_fast)
endif()

string(TOUPPER "${NRC_FAST_CUDA}" cuda_wanted)
if(NOT cuda_wanted MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "NRC_FAST_CUDA is ${NRC_FAST_CUDA}; give AUTO, ON or OFF")
endif()
if(cuda_wanted STREQUAL "OFF")
  return()
endif()
include(CheckLanguage)
set(CMAKE_CUDA_ARCHITECTURES OFF) # given below: not every CMake knows 90a
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(cuda_wanted STREQUAL "ON")
    message(FATAL_ERROR "NRC_FAST_CUDA=ON, but no CUDA compiler was found. Put nvcc on PATH, or set CUDACXX to it")
  endif()
  message(STATUS "nrc_fast: no CUDA compiler, the CUDA kernels are left out")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)

set(gencode "")
foreach(arch IN LISTS NRC_FAST_CUDA_ARCHS)
  if(NOT arch MATCHES "^[0-9]+[af]?$")
    message(FATAL_ERROR "NRC_FAST_CUDA_ARCHS holds ${arch}; numbers such as 80 or 90a are expected")
  endif()
  list(APPEND gencode "-gencode=arch=compute_${arch},code=sm_${arch}")
endforeach()
# The last one again, as PTX that a later card's driver compiles; not for a, which only its own card runs.
list(GET NRC_FAST_CUDA_ARCHS -1 newest)
set(ptx "")
if(NOT newest MATCHES "[af]$")
  list(APPEND gencode "-gencode=arch=compute_${newest},code=compute_${newest}")
  set(ptx ${newest})
endif()

pybind11_add_module(_cuda MODULE NO_EXTRAS csrc/cuda/module.cpp csrc/cuda/bindings.cpp csrc/cuda/runtime.cpp)
foreach(kernel IN LISTS cuda_kernels)
  target_sources(_cuda PRIVATE csrc/cuda/${kernel}.cu)
endforeach()
target_include_directories(_cuda PRIVATE csrc)
target_link_libraries(_cuda PRIVATE CUDA::cudart_static)
target_compile_options(
  _cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic>
                $<$<COMPILE_LANGUAGE:CUDA>:${gencode};-Xptxas=-v,-warn-spills,-warn-lmem-usage;-Xfatbin=-compress-all>
                $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
if(NRC_FAST_WERROR)
  target_compile_options(_cuda PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>)
endif()
string(REPLACE ";" "," architectures "${NRC_FAST_CUDA_ARCHS}")
target_compile_definitions(
  _cuda PRIVATE NRC_FAST_VERSION="${PROJECT_VERSION}" NRC_FAST_CUDA_ARCHITECTURES="${architectures}"
                NRC_FAST_CUDA_PTX="${ptx}" NRC_FAST_CUDA_COMPILER="${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
install(TARGETS _cuda DESTINATION nrc_fast)
