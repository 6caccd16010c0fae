# nrc_fast.kernels._cuda: static cudart, nothing of torch, cuBLAS or the driver is linked, so that it loads everywhere.
include(${CMAKE_CURRENT_LIST_DIR}/cuda_architectures.cmake)
set(cuda_kernels "")
foreach(folder gram residual descent)
  file(GLOB found CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/csrc/cuda ${PROJECT_SOURCE_DIR}/csrc/cuda/${folder}/*.cu)
  list(TRANSFORM found REPLACE "[.]cu$" "")
  list(APPEND cuda_kernels ${found})
endforeach()

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
                            NRC_FAST_CUDA_ARCHITECTURES="" NRC_FAST_CUDA_PTX="" NRC_FAST_CUDA_LEFT_OUT=""
                            NRC_FAST_CUDA_COMPILER="emulation")
  install(TARGETS _cuda_emulation DESTINATION nrc_fast/kernels)
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
set(cuda_problem "")
if(NOT CMAKE_CUDA_COMPILER)
  set(cuda_problem "no CUDA compiler that works was found. Put nvcc on PATH, or set CUDACXX to it")
else()
  nrc_fast_choose_cuda_architectures("${CMAKE_CUDA_COMPILER}")
endif()
if(NOT cuda_problem)
  enable_language(CUDA)
  find_package(CUDAToolkit)
  if(NOT TARGET CUDA::cudart_static)
    set(cuda_problem "${CMAKE_CUDA_COMPILER} comes without the static CUDA runtime or its headers")
  endif()
endif()
if(NOT cuda_problem)
  nrc_fast_try_cuda("${CMAKE_CUDA_COMPILER}" ${CMAKE_CURRENT_BINARY_DIR}/CMakeFiles)
endif()
if(cuda_problem)
  if(cuda_wanted STREQUAL "ON")
    message(FATAL_ERROR "NRC_FAST_CUDA=ON, but ${cuda_problem}")
  endif()
  set(kind STATUS)
  if(CMAKE_CUDA_COMPILER)
    set(kind WARNING) # there was something to expect
  endif()
  message(${kind} "nrc_fast: the CUDA kernels are left out: ${cuda_problem}")
  return()
endif()
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)

string(REPLACE ";" "," architectures "${cuda_architectures}")
string(REPLACE ";" "," left_out "${cuda_left_out}")
message(STATUS "nrc_fast: CUDA kernels for ${architectures}; as PTX too: ${cuda_ptx}")
if(cuda_left_out)
  message(WARNING "nrc_fast: the CUDA kernels are not built for ${left_out}, which ${CMAKE_CUDA_COMPILER} does not know")
endif()
set(gencode "")
foreach(arch IN LISTS cuda_architectures)
  list(APPEND gencode "-gencode=arch=compute_${arch},code=sm_${arch}")
endforeach()
if(cuda_ptx)
  list(APPEND gencode "-gencode=arch=compute_${cuda_ptx},code=compute_${cuda_ptx}")
endif()

pybind11_add_module(_cuda MODULE NO_EXTRAS csrc/cuda/module.cpp csrc/cuda/bindings.cpp csrc/cuda/machine/runtime.cpp
                                  csrc/cuda/machine/current_device.cpp)
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
target_compile_definitions(
  _cuda PRIVATE NRC_FAST_VERSION="${PROJECT_VERSION}" NRC_FAST_CUDA_ARCHITECTURES="${architectures}"
                NRC_FAST_CUDA_PTX="${cuda_ptx}" NRC_FAST_CUDA_LEFT_OUT="${left_out}"
                NRC_FAST_CUDA_COMPILER="${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}")
install(TARGETS _cuda DESTINATION nrc_fast/kernels)
