// A make-believe GPU for Paddle's custom-device interface: two devices whose memory is apart from the host's and whose
// copies are counted. It has no kernels: Paddle brings the inputs of each operator to the CPU, and its outputs back.
// Those copies are told from the ones that Python asks for (`numpy()`, `float()`, `to_tensor()` …) by who calls.
//
// FAKE_GPU_BYTES=N   an allocation that would exceed N bytes on a device fails
// FAKE_GPU_ZEROS=1   every answer is zeros, as from a GPU that is newer than the wheel
// FAKE_GPU_LOST=1    every allocation and copy fails, as on a GPU that fell off the bus
//
// All three are read at each call, so that a test can switch them in a running process.
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "paddle/phi/backends/device_ext.h"

namespace {

constexpr size_t kDevices = 2, kTotalBytes = size_t(8) << 30, kChunkBytes = size_t(64) << 20;

std::atomic<size_t> uploads{0}, downloads{0}, operator_copies{0};
std::atomic<size_t> held[kDevices];
thread_local int current = 0;

const char* setting(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? value : nullptr;
}

C_Status state() { return setting("FAKE_GPU_LOST") ? C_ERROR : C_SUCCESS; }

// ---- device, streams and events: all work is done when it is asked for

C_Status done() { return C_SUCCESS; }
C_Status device_done(const C_Device) { return C_SUCCESS; }
C_Status select(const C_Device device) { current = device->id; return C_SUCCESS; }
C_Status selected(const C_Device device) { device->id = current; return C_SUCCESS; }
C_Status synchronize(const C_Device) { return state(); }

template <class Handle> C_Status create(const C_Device, Handle* handle) {
  *handle = static_cast<Handle>(std::malloc(1));
  return C_SUCCESS;
}
template <class Handle> C_Status destroy(const C_Device, Handle handle) { std::free(handle); return C_SUCCESS; }
template <class Handle> C_Status handle_done(const C_Device, Handle) { return C_SUCCESS; }
C_Status stream_event(const C_Device, C_Stream, C_Event) { return C_SUCCESS; }
C_Status call_back(const C_Device device, C_Stream stream, C_Callback callback, void* data) {
  C_Status status = C_SUCCESS;
  callback(device, stream, data, &status);
  return status;
}

// ---- memory

C_Status allocate(const C_Device device, void** pointer, size_t size) {
  *pointer = nullptr;
  const char* limit = setting("FAKE_GPU_BYTES");
  if (limit && held[device->id] + size > std::strtoull(limit, nullptr, 10)) return state();  // Paddle tells it
  *pointer = std::aligned_alloc(64, (size + 63) / 64 * 64);
  if (*pointer) {
    std::memset(*pointer, 0xFF, size);  // NaN: a read before the first write shows
    held[device->id] += size;
  }
  return state();
}
C_Status release(const C_Device device, void* pointer, size_t size) {
  std::free(pointer);
  held[device->id] -= size;
  return C_SUCCESS;
}
C_Status host_allocate(const C_Device, void** pointer, size_t size) {
  *pointer = std::malloc(size);
  return *pointer ? C_SUCCESS : C_FAILED;
}
C_Status host_release(const C_Device, void* pointer, size_t) { std::free(pointer); return C_SUCCESS; }
C_Status fill(const C_Device, void* pointer, unsigned char value, size_t size) {
  std::memset(pointer, value, size);
  return state();
}
C_Status copy(const C_Device, void* to, const void* from, size_t size) { std::memcpy(to, from, size); return state(); }
bool moves_data_for_an_operator(void* caller) {
  static std::mutex lock;
  static std::unordered_map<void*, bool> known;  // finding a name takes a millisecond
  const std::lock_guard<std::mutex> held_lock(lock);
  const auto found = known.find(caller);
  if (found != known.end()) return found->second;
  Dl_info info;
  const char* name = dladdr(caller, &info) && info.dli_sname ? info.dli_sname : "";
  const bool cpu_kernel = std::strstr(name, "Kernel") && std::strstr(name, "CPUContext");  // fetches indices itself
  return known[caller] = cpu_kernel || std::strstr(name, "TransData");
}
void count_copy(std::atomic<size_t>* asked_for) {
  void* callers[24];
  const int depth = backtrace(callers, 24);
  const bool own = std::any_of(callers, callers + depth, moves_data_for_an_operator);
  ++(own ? operator_copies : *asked_for);
}
C_Status upload(const C_Device device, void* to, const void* from, size_t size) {
  count_copy(&uploads);
  return copy(device, to, from, size);
}
C_Status download(const C_Device device, void* to, const void* from, size_t size) {
  count_copy(&downloads);
  if (!setting("FAKE_GPU_ZEROS")) return copy(device, to, from, size);
  std::memset(to, 0, size);
  return state();
}
C_Status copy_between(const C_Device device, const C_Device, void* to, const void* from, size_t size) {
  return copy(device, to, from, size);
}
template <C_Status (*now)(const C_Device, void*, const void*, size_t)>
C_Status in_stream(const C_Device device, C_Stream, void* to, const void* from, size_t size) {
  return now(device, to, from, size);
}
C_Status copy_between_in_stream(const C_Device a, const C_Device b, C_Stream, void* to, const void* from, size_t size) {
  return copy_between(a, b, to, from, size);
}

// ---- collectives of the processes of one machine, through a file that all of them map

constexpr size_t kProcesses = 8, kSlotBytes = size_t(1) << 20, kPathBytes = 256, kPatienceMicroseconds = 60'000'000;

struct Shared {
  std::atomic<size_t> arrivals;
  char slots[kProcesses][kSlotBytes];
};
struct Group {
  size_t count, rank, meetings;
  Shared* shared;
};

bool meet(Group* group) {
  ++group->shared->arrivals;
  const size_t wanted = ++group->meetings * group->count;
  for (size_t waited = 0; group->shared->arrivals < wanted; waited += 50) {
    if (waited > kPatienceMicroseconds) return false;
    usleep(50);
  }
  return true;
}
C_Status id_size(size_t* size) { *size = kPathBytes; return C_SUCCESS; }
C_Status new_id(C_CCLRootId* id) {
  const char* folder = std::getenv("TMPDIR");
  std::snprintf(static_cast<char*>(id->data), kPathBytes, "%s/fake-gpu-XXXXXX", folder ? folder : "/tmp");
  const int file = mkstemp(static_cast<char*>(id->data));
  if (file < 0 || ftruncate(file, sizeof(Shared))) return C_FAILED;
  close(file);
  return C_SUCCESS;
}
C_Status join(size_t count, C_CCLRootId* id, size_t rank, C_CCLComm* comm) {
  const char* path = static_cast<char*>(id->data);
  const int file = open(path, O_RDWR);
  if (file < 0 || count > kProcesses) return C_FAILED;
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) return C_FAILED;
  auto* group = new Group{count, rank, 0, static_cast<Shared*>(memory)};
  *comm = reinterpret_cast<C_CCLComm>(group);
  if (!meet(group)) return C_FAILED;
  if (rank == 0) unlink(path);
  return C_SUCCESS;
}
C_Status leave(C_CCLComm comm) {
  auto* group = reinterpret_cast<Group*>(comm);
  munmap(group->shared, sizeof(Shared));
  delete group;
  return C_SUCCESS;
}
size_t bytes_of(C_DataType type) {
  switch (type) {
    case BOOL: case UINT8: case INT8: return 1;
    case INT16: case FLOAT16: case BFLOAT16: return 2;
    case INT32: case FLOAT32: return 4;
    default: return 8;
  }
}
template <class Number> void combine(const Group* group, void* answer, size_t bytes, C_CCLReduceOp op) {
  auto* sums = static_cast<Number*>(answer);
  std::memcpy(answer, group->shared->slots[0], bytes);
  for (size_t rank = 1; rank < group->count; ++rank) {
    const auto* theirs = reinterpret_cast<const Number*>(group->shared->slots[rank]);
    for (size_t n = 0; n < bytes / sizeof(Number); ++n)
      sums[n] = op == MAX ? std::max(sums[n], theirs[n]) : sums[n] + theirs[n];
  }
}
C_Status all_reduce(void* mine, void* answer, size_t count, C_DataType type, C_CCLReduceOp op, C_CCLComm comm, C_Stream) {
  auto* group = reinterpret_cast<Group*>(comm);
  if ((op != SUM && op != MAX) || (type != FLOAT32 && type != INT32 && type != INT64)) return C_FAILED;
  for (size_t done = 0, total = count * bytes_of(type); done < total; done += kSlotBytes) {
    const size_t bytes = std::min(kSlotBytes, total - done);
    std::memcpy(group->shared->slots[group->rank], static_cast<char*>(mine) + done, bytes);
    if (!meet(group)) return C_ERROR;
    void* part = static_cast<char*>(answer) + done;
    if (type == FLOAT32) combine<float>(group, part, bytes, op);
    else if (type == INT32) combine<int32_t>(group, part, bytes, op);
    else combine<int64_t>(group, part, bytes, op);
    if (!meet(group)) return C_ERROR;
  }
  return C_SUCCESS;
}
C_Status broadcast(void* data, size_t count, C_DataType type, size_t root, C_CCLComm comm, C_Stream) {
  auto* group = reinterpret_cast<Group*>(comm);
  for (size_t done = 0, total = count * bytes_of(type); done < total; done += kSlotBytes) {
    const size_t bytes = std::min(kSlotBytes, total - done);
    char *part = static_cast<char*>(data) + done, *slot = group->shared->slots[root];
    if (group->rank == root) std::memcpy(slot, part, bytes);
    if (!meet(group)) return C_ERROR;
    if (group->rank != root) std::memcpy(part, slot, bytes);
    if (!meet(group)) return C_ERROR;
  }
  return C_SUCCESS;
}

// ---- what the devices are

C_Status device_count(size_t* count) { *count = kDevices; return C_SUCCESS; }
C_Status device_list(size_t* numbers) {
  for (size_t n = 0; n < kDevices; ++n) numbers[n] = n;
  return C_SUCCESS;
}
C_Status memory_stats(const C_Device device, size_t* total, size_t* available) {
  const char* limit = setting("FAKE_GPU_BYTES");
  *total = limit ? std::strtoull(limit, nullptr, 10) : kTotalBytes;
  *available = *total > held[device->id] ? *total - held[device->id] : 0;
  return C_SUCCESS;
}
template <size_t bytes> C_Status constant(const C_Device, size_t* value) { *value = bytes; return C_SUCCESS; }
C_Status yes(const C_Device, bool* value) { *value = true; return C_SUCCESS; }

// Paddle 2.6 asks for the capability of all devices at once, and not for number formats.
C_Status capability(size_t* value) { *value = 80; return C_SUCCESS; }
C_Status capability(const C_Device, size_t* value) { return capability(value); }
template <class Interface> auto set_formats(Interface* i, int) -> decltype(void(i->is_float16_supported)) {
  i->is_float16_supported = i->is_bfloat16_supported = yes;
}
template <class Interface> void set_formats(Interface*, long) {}

}  // namespace

extern "C" __attribute__((visibility("default"))) void fake_gpu_counts(size_t* counts) {
  counts[0] = uploads;
  counts[1] = downloads;
  counts[2] = operator_copies;
  for (size_t n = 0; n < kDevices; ++n) counts[3 + n] = held[n];
}

extern "C" __attribute__((visibility("default"))) void InitPlugin(CustomRuntimeParams* params) {
  PADDLE_CUSTOM_RUNTIME_CHECK_VERSION(params);
  static char type[] = "fake_gpu", sub_type[] = "v1";
  params->device_type = type;
  params->sub_device_type = sub_type;
  C_DeviceInterface* i = params->interface;
  std::memset(i, 0, sizeof(*i));
  i->size = sizeof(*i);
  i->initialize = i->finalize = done;
  i->init_device = i->deinit_device = device_done;
  i->set_device = select;
  i->get_device = selected;
  i->synchronize_device = synchronize;
  i->create_stream = create<C_Stream>;
  i->destroy_stream = destroy<C_Stream>;
  i->query_stream = i->synchronize_stream = handle_done<C_Stream>;
  i->stream_add_callback = call_back;
  i->create_event = create<C_Event>;
  i->destroy_event = destroy<C_Event>;
  i->query_event = i->synchronize_event = handle_done<C_Event>;
  i->record_event = i->stream_wait_event = stream_event;
  i->device_memory_allocate = allocate;
  i->device_memory_deallocate = release;
  i->device_memory_set = fill;
  i->host_memory_allocate = i->unified_memory_allocate = host_allocate;
  i->host_memory_deallocate = i->unified_memory_deallocate = host_release;
  i->memory_copy_h2d = upload;
  i->memory_copy_d2h = download;
  i->memory_copy_d2d = copy;
  i->memory_copy_p2p = copy_between;
  i->async_memory_copy_h2d = in_stream<upload>;
  i->async_memory_copy_d2h = in_stream<download>;
  i->async_memory_copy_d2d = in_stream<copy>;
  i->async_memory_copy_p2p = copy_between_in_stream;
  i->get_device_count = device_count;
  i->get_device_list = device_list;
  i->device_memory_stats = memory_stats;
  i->device_min_chunk_size = constant<512>;
  i->device_max_chunk_size = i->device_init_alloc_size = i->device_realloc_size = constant<kChunkBytes>;
  i->device_max_alloc_size = constant<(size_t(2) << 30)>;
  i->device_extra_padding_size = constant<0>;
  i->get_compute_capability = capability;
  set_formats(i, 0);
  i->xccl_get_unique_id_size = id_size;
  i->xccl_get_unique_id = new_id;
  i->xccl_comm_init_rank = join;
  i->xccl_destroy_comm = leave;
  i->xccl_all_reduce = all_reduce;
  i->xccl_broadcast = broadcast;
  i->xccl_group_start = i->xccl_group_end = done;
}
