# A toolchain file: builds for Linux on aarch64 on another processor, with Debian's or Ubuntu's g++-aarch64-linux-gnu.
# Python's headers for aarch64 are given by Python_INCLUDE_DIR, and the ending of its modules by Python_SOABI.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
