// nrc_fast.kernels._cuda_emulation and _cuda_emulation_races: the functions of nrc_fast.kernels._cuda on memory of the
// host, knobs of the emulated machine, and the work plan and index maths that the kernels use. For the tests only.
#include <pybind11/stl.h>

#include <map>
#include <tuple>
#include <vector>

#include "common/addresses.h"
#include "cuda/bindings.h"
#include "cuda/emulation/bindings.h"
#include "cuda/emulation/guarded_memory.h"
#include "cuda/emulation/kernel_build.h"
#include "cuda/emulation/machine.h"
#include "cuda/emulation/probes.h"
#include "cuda/emulation/tensor_core.h"
#include "cuda/gram/gram.h"
#include "cuda/gram/product.h"
#include "cuda/gram/work_plan.h"
#include "cuda/machine/fragments.h"

namespace py = pybind11;

namespace nrc_fast::cuda {
namespace {

using emulation::Machine;
using emulation::machine;

template <class T>
T named(const std::map<std::string, T>& names, const std::string& name) {
  const auto found = names.find(name);
  if (found == names.end()) throw std::invalid_argument("the emulated machine knows no " + name);
  return found->second;
}

Machine::Order order_named(const std::string& name) {
  return named<Machine::Order>({{"forward", Machine::Order::forward},
                                {"backward", Machine::Order::backward},
                                {"shuffled", Machine::Order::shuffled},
                                {"ahead", Machine::Order::ahead}},
                               name);
}

Machine::Fault fault_named(const std::string& name) {
  return named<Machine::Fault>({{"", Machine::Fault::none},
                                {"not_transposed", Machine::Fault::not_transposed},
                                {"operands_swapped", Machine::Fault::operands_swapped},
                                {"accumulators_swapped", Machine::Fault::accumulators_swapped},
                                {"wait_too_short", Machine::Fault::wait_too_short},
                                {"no_barrier", Machine::Fault::no_barrier},
                                {"not_swizzled", Machine::Fault::not_swizzled},
                                {"wrong_phase", Machine::Fault::wrong_phase},
                                {"bytes_missing", Machine::Fault::bytes_missing}},
                               name);
}

void configure(const std::string& order, const std::string& copies, const std::string& fault, unsigned seed,
               int multiprocessors, int capability, int blocks_at_once, const std::string& left_out_file,
               int left_out_line, bool keeps_records) {
  emulation::card_limits(capability);
  if (blocks_at_once < 1) throw std::invalid_argument("at least one block runs at once");
  Machine& chosen = machine();
  chosen = Machine();
  chosen.order = order_named(order);
  chosen.copies = named<Machine::Copies>({{"early", Machine::Copies::early}, {"late", Machine::Copies::late}}, copies);
  chosen.fault = fault_named(fault);
  chosen.seed = seed;
  chosen.multiprocessors = multiprocessors;
  chosen.capability = capability;
  chosen.blocks_at_once = blocks_at_once;
  chosen.finds_races = emulation::can_find_races();
  chosen.left_out_file = left_out_file;
  chosen.left_out_line = left_out_line;
  chosen.keeps_records = keeps_records;
}

using LaunchTuple = std::tuple<std::string, std::tuple<std::int64_t, std::int64_t, std::int64_t>, int, std::int64_t>;

std::vector<LaunchTuple> launched() {
  std::vector<LaunchTuple> found;
  for (const emulation::Launch& launch : machine().launched) {
    found.emplace_back(launch.name, std::make_tuple(launch.grid.x, launch.grid.y, launch.grid.z), launch.threads,
                       launch.shared_bytes);
  }
  return found;
}

std::vector<std::tuple<std::string, std::string, int>> synchronizations() {
  std::vector<std::tuple<std::string, std::string, int>> found;
  for (const emulation::Synchronization& at : machine().synchronizations) {
    found.emplace_back(at.name, at.place.file, at.place.line);
  }
  return found;
}

float dot_add(int capability, const std::string& kind, float sum, const std::vector<std::uint16_t>& left,
              const std::vector<std::uint16_t>& right) {
  emulation::Factor factors[2][16];
  for (std::size_t k = 0; k < 16; ++k) {
    const auto widened = kind == "bfloat16" ? &emulation::widened_bfloat16 : &emulation::widened_float16;
    factors[0][k] = emulation::factor(widened(left.at(k)));
    factors[1][k] = emulation::factor(widened(right.at(k)));
  }
  return emulation::dot_add(emulation::tensor_core_of(capability), sum, factors[0], factors[1]);
}

// What the runtime would say to a launch of these sizes.
void require_launch(std::tuple<std::int64_t, std::int64_t, std::int64_t> grid, int threads, std::int64_t shared_bytes) {
  emulation::require_possible(
      {"a kernel", {std::get<0>(grid), std::get<1>(grid), std::get<2>(grid)}, threads, shared_bytes});
}

std::vector<std::map<std::string, std::int64_t>> cards() {
  std::vector<std::map<std::string, std::int64_t>> found;
  for (const emulation::CardLimits& card : emulation::cards()) {
    found.push_back({{"capability", card.capability},
                     {"shared_per_block", card.shared_per_block},
                     {"shared_per_multiprocessor", card.shared_per_multiprocessor},
                     {"threads_per_multiprocessor", card.threads_per_multiprocessor},
                     {"blocks_per_multiprocessor", card.blocks_per_multiprocessor}});
  }
  return found;
}

void bind_memory(py::module_& module) {
  using emulation::GuardedMemory;
  py::class_<GuardedMemory>(module, "GuardedMemory", py::buffer_protocol(), py::module_local())
      .def(py::init<std::int64_t, std::int64_t>(), py::arg("bytes"), py::arg("alignment"))
      .def_buffer([](GuardedMemory& memory) { return py::buffer_info(memory.data(), memory.bytes()); });
}

void bind_machine(py::module_& module) {
  module.def("configure", &configure, py::arg("order") = "forward", py::arg("copies") = "late", py::arg("fault") = "",
             py::arg("seed") = 0, py::arg("multiprocessors") = 4, py::arg("capability") = 90,
             py::arg("blocks_at_once") = 1, py::arg("left_out_file") = "", py::arg("left_out_line") = 0,
             py::arg("keeps_records") = false);
  module.def("matrix_reads", [] { return machine().matrix_reads; });
  module.def("matrix_passes", [] { return machine().matrix_passes; });
  module.def("launches", [] { return machine().launches; });
  module.def("copied_bytes", [] { return machine().copied_bytes; });
  module.def("loaded_bytes", [] { return machine().loaded_bytes; });
  module.def("launched", &launched);
  module.def("synchronizations", &synchronizations);
  module.def("can_find_races", &emulation::can_find_races);
  module.def("contracts_products", &emulation::contracts_products);
  module.def("dot_add", &dot_add);
  module.attr("probe_numbers") = emulation::probe_numbers;
  module.def("run_probe", [](const std::string& name, Address memory) {
    emulation::run_probe(name, pointer<std::int64_t>(memory));
  });
  module.def("require_launch", &require_launch, py::arg("grid"), py::arg("threads"), py::arg("shared_bytes"));
  module.def("cards", &cards);
}

using SegmentTuple = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

std::vector<SegmentTuple> segments(const WorkPlan& plan, std::int64_t worker) {
  std::vector<SegmentTuple> found;
  Segment segment{};
  for (std::int64_t ordinal = 0; find_segment(plan, worker, ordinal, segment); ++ordinal) {
    found.emplace_back(segment.tile, segment.first_block, segment.last_block, segment.slab);
  }
  return found;
}

std::vector<std::int64_t> slabs(const WorkPlan& plan, std::int64_t tile) {
  std::vector<std::int64_t> found;
  SlabWalk walk(plan, tile);
  SlabRun run{};
  while (walk.next(run)) {
    for (std::int64_t i = 0; i < run.count; ++i) found.push_back(run.slab(i));
  }
  return found;
}

// Of those the ones with rows, as the last kernel finds them.
std::vector<std::int64_t> filled_slabs(const WorkPlan& plan, std::int64_t tile) {
  std::vector<std::int64_t> found;
  SlabWalk walk(plan, tile);
  SlabRun run{};
  while (walk.next(run)) {
    const bool asks = !run.all_have_blocks(plan);
    for (std::int64_t i = 0; i < run.count; ++i) {
      if (!asks || run.has_blocks(plan, i)) found.push_back(run.slab(i));
    }
  }
  return found;
}

using Element = std::pair<std::int64_t, std::int64_t>;

std::vector<Element> double_elements(std::int64_t tile, std::int64_t columns) {
  std::vector<Element> found;
  for (int i = 0; i < double_sums * slab_lanes(columns); ++i) {
    const GramElement element = double_slab_element(tile, columns, i);
    found.emplace_back(element.row, element.column);
  }
  return found;
}

std::vector<Element> moment_elements() {
  std::vector<Element> found;
  for (int i = 0; i < moment_values; ++i) {
    const TileElement element = moment_element(i % moment_lanes / warp_lanes, i % warp_lanes, i / moment_lanes);
    found.emplace_back(element.row, element.column);
  }
  return found;
}

template <int size, int warps>
std::pair<int, int> element_of_register(int thread, int index) {
  const TileElement element = tile_element<size>(first_place<size, warps>(thread) + place_behind<size, warps>(index));
  return {element.row, element.column};
}

std::pair<int, int> element_of_tile(int size, int threads, int thread, int index) {
  if (size == 64) return element_of_register<64, 4>(thread, index);
  return threads == 128 ? element_of_register<128, 4>(thread, index) : element_of_register<128, 8>(thread, index);
}

std::pair<int, bool> gram_choice(int dtype, bool is_copyable, bool is_scaled, bool is_shifted, int precision,
                                 int capability) {
  MatrixView rows;
  rows.dtype = static_cast<DType>(dtype);
  rows.columns = 16;
  rows.row_stride = is_copyable ? 16 : 17;
  const GramChoice choice =
      choose_gram(rows, is_scaled, is_shifted, static_cast<Precision>(precision), {capability / 10, capability % 10});
  return {static_cast<int>(choice.method), choice.needs_planes};
}

// Whether rows are read once, and by how many vectors at a time.
std::pair<bool, std::int64_t> product_choice(int dtype, std::int64_t columns, std::int64_t vectors, int device) {
  MatrixView rows;
  rows.dtype = static_cast<DType>(dtype);
  rows.columns = columns;
  const ProductChoice choice = choose_product(rows, vectors, device_limits(device));
  return {choice.is_resident, choice.vectors_at_once};
}

void bind_index_maths(py::module_& module) {
  py::class_<WorkPlan>(module, "WorkPlan", py::module_local())
      .def(py::init([](std::int64_t tiles, std::int64_t workers, std::int64_t blocks) {
        return WorkPlan{tiles, workers, blocks};
      }))
      .def("segments", &segments)
      .def("slabs", &slabs)
      .def("filled_slabs", &filled_slabs)
      .def("slab_count", [](const WorkPlan& plan) { return slab_count(plan); });
  module.def("lower_tiles", [](std::int64_t rows) { return lower_tiles(rows); });
  module.def("tile_position", [](std::int64_t index) {
    const TilePosition position = tile_position(index);
    return std::make_pair(position.row, position.column);
  });
  module.def("chunk_offset", [](int columns, int row, int chunk) { return chunk_offset(columns, row, chunk); });
  module.def("left_lane", [](int lane) { return std::make_pair(left_lane(lane).row, left_lane(lane).chunk); });
  module.def("right_lane", [](int lane) { return std::make_pair(right_lane(lane).row, right_lane(lane).chunk); });
  module.def("element_of_tile", &element_of_tile);
  module.def("double_item_count", &double_item_count);
  module.def("double_elements", &double_elements);
  module.def("moment_elements", &moment_elements);
  module.def("gram_choice", &gram_choice);
  module.def("product_choice", &product_choice);
}

void bind_everything(py::module_& module) {
  module.doc() = "The CUDA kernels of nrc_fast on an emulated device, for its tests.";
  bind_kernels(module);
  bind_probes(module);
  bind_memory(module);
  bind_machine(module);
  bind_index_maths(module);
  bind_warpgroup_maths(module);
  machine().finds_races = emulation::can_find_races();
}

}  // namespace
}  // namespace nrc_fast::cuda

PYBIND11_MODULE(_cuda_emulation, module) { nrc_fast::cuda::bind_everything(module); }

// The same with kernels that tell about every access to memory.
PYBIND11_MODULE(_cuda_emulation_races, module) { nrc_fast::cuda::bind_everything(module); }
