# A toolchain file: compiles for macOS 11 on arm64 on another system, with the zig of the Python in NRC_FAST_ZIG. For a
# check of `make wheels`; wheels are built on macOS, with its own tools.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/../packaging/macos_compiler.py")
set(CMAKE_INSTALL_NAME_TOOL false) # nothing is installed
set(CMAKE_OSX_DEPLOYMENT_TARGET 11.0)
