# Which architectures the CUDA kernels are built for. `cmake -DNVCC=nvcc -P cmake/cuda_architectures.cmake` prints it.
cmake_policy(VERSION 3.18...4.0)

# What is not asked for by name: compute capabilities of cards in use, in ascending order. Those that nvcc does not know
# are left out. Never what GPU is here: the same source and compiler give the same wheel everywhere.
set(NRC_FAST_CUDA_DEFAULT_ARCHS "75;80;86;89;90a;100;120" CACHE STRING
    "Compute capabilities of the CUDA kernels, where NRC_FAST_CUDA_ARCHS is empty: those of these that nvcc knows")
set(NRC_FAST_CUDA_ARCHS "" CACHE STRING
    "Compute capabilities of the CUDA kernels, all of which nvcc must know; the last one also as PTX, for later cards")

# Sets `known` to whether nvcc compiles for an architecture. --list-gpu-code leaves out all that end with a or f, of
# which each nvcc knows some: those are tried, without running what nvcc would run.
function(nrc_fast_nvcc_knows nvcc listed arch known)
  set(${known} FALSE PARENT_SCOPE)
  if("sm_${arch}" IN_LIST listed)
    set(${known} TRUE PARENT_SCOPE)
  elseif(arch MATCHES "[af]$")
    execute_process(
      COMMAND ${nvcc} --dryrun -gencode=arch=compute_${arch},code=sm_${arch} -x cu -c ${CMAKE_CURRENT_FUNCTION_LIST_FILE}
      RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
    if(status STREQUAL "0")
      set(${known} TRUE PARENT_SCOPE)
    endif()
  endif()
endfunction()

# Sets in the caller: cuda_architectures, as machine code; cuda_ptx, the one that is PTX too, or empty; cuda_left_out, of
# the default list; cuda_problem, why nothing can be built, or empty. What was asked for by name is built or an error.
function(nrc_fast_choose_cuda_architectures nvcc)
  set(architectures "")
  set(left_out "")
  set(ptx "")
  set(problem "")
  set(wanted "${NRC_FAST_CUDA_ARCHS}")
  if(wanted STREQUAL "")
    set(wanted "${NRC_FAST_CUDA_DEFAULT_ARCHS}")
  endif()
  foreach(arch IN LISTS wanted)
    if(NOT arch MATCHES "^[0-9]+[af]?$")
      message(FATAL_ERROR "NRC_FAST_CUDA_ARCHS holds ${arch}; numbers such as 80 or 90a are expected")
    endif()
  endforeach()

  execute_process(COMMAND ${nvcc} --list-gpu-code RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_QUIET)
  string(REGEX MATCHALL "sm_[0-9]+[af]?" listed "${output}")
  string(REPLACE ";" ", " listed_text "${listed}")
  if(NOT status STREQUAL "0" OR NOT listed)
    set(problem "${nvcc} --list-gpu-code names no architecture: it is too old, or no nvcc")
  else()
    foreach(arch IN LISTS wanted)
      nrc_fast_nvcc_knows(${nvcc} "${listed}" ${arch} is_known)
      if(is_known)
        list(APPEND architectures ${arch})
      else()
        list(APPEND left_out ${arch})
      endif()
    endforeach()
  endif()

  string(REPLACE ";" ", " left_out_text "${left_out}")
  if(left_out AND NOT NRC_FAST_CUDA_ARCHS STREQUAL "")
    message(
      FATAL_ERROR
        "NRC_FAST_CUDA_ARCHS holds ${left_out_text}, which ${nvcc} does not know; it knows ${listed_text} (and variants "
        "of these with a or f). Take them from NRC_FAST_CUDA_ARCHS, leave it empty for those of "
        "${NRC_FAST_CUDA_DEFAULT_ARCHS} that are known, or set CUDACXX to the nvcc of another CUDA toolkit")
  elseif(left_out AND NOT architectures)
    set(problem "${nvcc} knows none of ${left_out_text}; it knows ${listed_text}")
  endif()

  if(architectures)
    list(GET architectures -1 newest)
    # PTX is what later cards run, but not that of a or f. Of the default list, the newest one without the letter takes
    # its place (90 for 90a): an older nvcc leaves out 100 and 120, whose cards then still have something to run.
    if(NRC_FAST_CUDA_ARCHS STREQUAL "")
      string(REGEX REPLACE "[af]$" "" newest ${newest})
    endif()
    # Code for cards before 80 has traps where launches on later ones use tensor cores.
    if(newest MATCHES "^[0-9]+$" AND NOT newest LESS 80)
      set(ptx ${newest})
    endif()
  endif()
  set(cuda_architectures "${architectures}" PARENT_SCOPE)
  set(cuda_ptx "${ptx}" PARENT_SCOPE)
  set(cuda_left_out "${left_out}" PARENT_SCOPE)
  set(cuda_problem "${problem}" PARENT_SCOPE)
endfunction()

# Sets `cuda_problem` in the caller to why nvcc compiles no C++17 with the host compiler and the flags given, or to
# nothing. After enable_language.
function(nrc_fast_try_cuda nvcc folder)
  list(GET cuda_architectures 0 arch)
  separate_arguments(options UNIX_COMMAND "${CMAKE_CUDA_FLAGS}")
  list(APPEND options -std=c++17 -gencode=arch=compute_${arch},code=sm_${arch})
  if(CMAKE_CUDA_HOST_COMPILER)
    list(APPEND options -ccbin ${CMAKE_CUDA_HOST_COMPILER})
  endif()
  file(
    WRITE ${folder}/nrc_fast_try.cu
    "#include <cuda_runtime.h>\n#include <algorithm>\n#include <functional>\n#include <stdexcept>\n#include <string>\n"
    "template <class T> __global__ void fill(T* values) { if constexpr (sizeof(T) > 4) values[threadIdx.x] = T{}; }\n"
    "void launch(double* values) { fill<<<1, 32>>>(values); }\n")
  execute_process(
    COMMAND ${nvcc} ${options} -c ${folder}/nrc_fast_try.cu -o ${folder}/nrc_fast_try.o
    RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  set(cuda_problem "" PARENT_SCOPE)
  if(NOT status STREQUAL "0")
    set(cuda_problem "${nvcc} compiles no C++17 here; CUDACXX and CUDAHOSTCXX name other compilers. It says: ${output}" PARENT_SCOPE)
  endif()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  nrc_fast_choose_cuda_architectures("${NVCC}")
  message("architectures ${cuda_architectures}\nptx ${cuda_ptx}\nleft out ${cuda_left_out}\nproblem ${cuda_problem}")
endif()
