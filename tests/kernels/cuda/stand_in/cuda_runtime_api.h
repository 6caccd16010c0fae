// The functions of the CUDA runtime that csrc/cuda/machine calls, on two made-up cards, with the effects on contexts
// that CUDA 12 and later document: for launch_state.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#define CUDART_VERSION 13000

struct CUctx_st {
  int device;
};

namespace stand_in {

inline CUctx_st contexts[2] = {{0}, {1}};

struct State {
  std::mutex mutex;
  std::set<int> created;             // devices with a context
  std::map<std::string, int> calls;  // of questions that take long
  std::map<std::pair<const void*, int>, int> shared_bytes;
  bool can_register = true;
  int registered = 0;
};

inline State& state() {
  static State found;
  return found;
}

inline thread_local std::vector<CUctx_st*> stack;
inline thread_local int chosen = 0;
inline thread_local int last_error = 0;

inline void create(int device) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  state().created.insert(device);
}

inline void count(const char* name) {
  const std::lock_guard<std::mutex> lock(state().mutex);
  ++state().calls[name];
}

}  // namespace stand_in

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidDevice = 101, cudaErrorNotSupported = 801 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaDriverEntryPointQueryResult { cudaDriverEntryPointSuccess = 0, cudaDriverEntryPointSymbolNotFound = 1 };
enum { cudaEnableDefault = 0, cudaHostRegisterDefault = 0 };
struct cudaDeviceProp {
  char name[256];
};

inline cudaError_t failed(cudaError_t status) {
  stand_in::last_error = status;
  return status;
}
inline cudaError_t cudaGetLastError() {
  const auto found = static_cast<cudaError_t>(stand_in::last_error);
  stand_in::last_error = 0;
  return found;
}
inline const char* cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorNotSupported ? "cudaErrorNotSupported" : "cudaErrorInvalidDevice";
}
inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorNotSupported ? "operation not supported" : "invalid device ordinal";
}

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 2;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  stand_in::count("attribute");
  if (device > 1) return failed(cudaErrorInvalidDevice);
  *value = 1000 * device + name;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  stand_in::count("properties");
  if (device > 1) return failed(cudaErrorInvalidDevice);
  std::strcpy(properties->name, device == 0 ? "first card" : "second card");
  return cudaSuccess;
}
inline cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
inline cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

// The device of the current context; without one, what was chosen, which does not make one.
inline cudaError_t cudaGetDevice(int* device) {
  *device = stand_in::stack.empty() ? stand_in::chosen : stand_in::stack.back()->device;
  return cudaSuccess;
}
// "Initializes the primary context" of the device, as of CUDA 12.
inline cudaError_t cudaSetDevice(int device) {
  stand_in::create(device);
  stand_in::chosen = device;
  if (stand_in::stack.empty()) stand_in::stack.push_back(nullptr);
  stand_in::stack.back() = &stand_in::contexts[device];
  return cudaSuccess;
}

// What the last caller says holds, more or less than before.
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  int device = 0;
  cudaGetDevice(&device);
  stand_in::create(device);
  const std::lock_guard<std::mutex> lock(stand_in::state().mutex);
  stand_in::state().shared_bytes[{kernel, device}] = bytes;
  return cudaSuccess;
}

inline cudaError_t cudaHostRegister(void*, std::size_t, unsigned) {
  int device = 0;
  cudaGetDevice(&device);
  stand_in::create(device);
  if (!stand_in::state().can_register) return failed(cudaErrorNotSupported);
  ++stand_in::state().registered;
  return cudaSuccess;
}
inline cudaError_t cudaHostUnregister(void*) {
  --stand_in::state().registered;
  return cudaSuccess;
}

// ---- the driver ----

namespace stand_in {

inline int get_current(CUctx_st** context) {
  *context = stack.empty() ? nullptr : stack.back();
  return 0;
}
inline int push(CUctx_st* context) {
  stack.push_back(context);
  return 0;
}
inline int pop(CUctx_st** context) {
  if (stack.empty()) return 201;
  *context = stack.back();
  stack.pop_back();
  return 0;
}
inline int get_device(int* handle, int number) {
  *handle = number;
  return number > 1 ? 101 : 0;
}
inline int retain(CUctx_st** context, int handle) {
  create(handle);
  *context = &contexts[handle];
  return 0;
}

}  // namespace stand_in

inline cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** found, unsigned, unsigned long long,
                                                    cudaDriverEntryPointQueryResult* result) {
  const std::map<std::string, void*> functions = {
      {"cuCtxGetCurrent", reinterpret_cast<void*>(&stand_in::get_current)},
      {"cuCtxPushCurrent", reinterpret_cast<void*>(&stand_in::push)},
      {"cuCtxPopCurrent", reinterpret_cast<void*>(&stand_in::pop)},
      {"cuDeviceGet", reinterpret_cast<void*>(&stand_in::get_device)},
      {"cuDevicePrimaryCtxRetain", reinterpret_cast<void*>(&stand_in::retain)}};
  *found = functions.at(name);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
