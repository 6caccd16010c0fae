# nrc_fast.kernels._cuda_emulation and _cuda_emulation_races: the kernels on an emulated device. In the first, products
# are contracted with sums, as nvcc does it, where this machine can; in the second they are not, and every access to
# memory is told to the emulated device, which looks for races.
set(emulated "")
foreach(kernel IN LISTS cuda_kernels)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/emulation/${kernel}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "#include \"cuda/${kernel}.cu\"\n")
  list(APPEND emulated ${source})
endforeach()
list(APPEND emulated csrc/cuda/emulation/kernel_build.cpp csrc/cuda/emulation/probes.cpp)

include(CheckCXXSourceRuns)
set(contraction -ffp-contract=fast)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND NOT CMAKE_CROSSCOMPILING)
  check_cxx_source_runs("int main() { return __builtin_cpu_supports(\"fma\") ? 0 : 1; }" NRC_FAST_HOST_HAS_FMA)
  if(NRC_FAST_HOST_HAS_FMA)
    list(APPEND contraction -mfma)
  endif()
endif()

# Shared memory of a block holds numbers of several types, as it does on a device. Fibers jump between stacks, which
# the checks of fortified builds take for an error.
set(emulation_options $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wno-pass-failed> -fno-strict-aliasing -U_FORTIFY_SOURCE -Wall -Wextra -Wno-unknown-pragmas)
if(NRC_FAST_WERROR)
  list(APPEND emulation_options -Werror)
endif()
set(emulation_definitions NRC_FAST_CUDA_EMULATION NRC_FAST_VERSION="${PROJECT_VERSION}" NRC_FAST_CUDA_ARCHITECTURES=""
                          NRC_FAST_CUDA_PTX="" NRC_FAST_CUDA_LEFT_OUT="" NRC_FAST_CUDA_COMPILER="emulation")

# What both have: the machine itself, which sees accesses of kernels and has none to tell.
set(parts accesses block box_copies clocks guarded_memory instructions machine module phase_barriers races runtime tensor_core
          warpgroup_bindings warpgroup_instructions warpgroup_products)
list(TRANSFORM parts REPLACE "(.+)" "csrc/cuda/emulation/\\1.cpp")
add_library(cuda_emulation_machine OBJECT ${parts} csrc/cuda/bindings.cpp csrc/cuda/probe_bindings.cpp)
target_link_libraries(cuda_emulation_machine PRIVATE pybind11::module)
set_target_properties(cuda_emulation_machine PROPERTIES CXX_VISIBILITY_PRESET hidden)
target_include_directories(cuda_emulation_machine PRIVATE csrc)
target_compile_options(cuda_emulation_machine PRIVATE -O3 ${emulation_options})
target_compile_definitions(cuda_emulation_machine PRIVATE ${emulation_definitions})

foreach(module _cuda_emulation _cuda_emulation_races)
  pybind11_add_module(${module} MODULE NO_EXTRAS ${emulated} $<TARGET_OBJECTS:cuda_emulation_machine>)
  target_include_directories(${module} PRIVATE csrc)
  target_link_libraries(${module} PRIVATE ${CMAKE_DL_LIBS})
  target_compile_options(${module} PRIVATE ${emulation_options})
  target_compile_definitions(${module} PRIVATE ${emulation_definitions})
  install(TARGETS ${module} DESTINATION nrc_fast/kernels)
endforeach()
target_compile_options(_cuda_emulation PRIVATE -O2 ${contraction})
target_sources(_cuda_emulation_races PRIVATE csrc/cuda/emulation/access_hooks.cpp)
# -g1: reports name lines.
target_compile_options(_cuda_emulation_races PRIVATE -O1 -g1 -ffp-contract=off -fsanitize=thread)
set_source_files_properties(csrc/cuda/emulation/access_hooks.cpp PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread)
