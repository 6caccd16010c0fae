// nrc_fast.kernels._cuda_emulation: the functions of nrc_fast.kernels._cuda on memory of the host, knobs of the
// emulated machine, and the work plan and index maths that the kernels use. For the tests only.
#include <pybind11/stl.h>

#include <map>
#include <tuple>
#include <vector>

#include "cuda/bindings.h"
#include "cuda/emulation/block.h"
#include "cuda/gram/gram.h"
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

void configure(const std::string& order, const std::string& copies, const std::string& fault, unsigned seed,
               int multiprocessors, int capability) {
  machine() = Machine();
  machine().order = named<Machine::Order>({{"forward", Machine::Order::forward},
                                           {"backward", Machine::Order::backward},
                                           {"shuffled", Machine::Order::shuffled}},
                                          order);
  machine().copies =
      named<Machine::Copies>({{"early", Machine::Copies::early}, {"late", Machine::Copies::late}}, copies);
  machine().fault = named<Machine::Fault>({{"", Machine::Fault::none},
                                           {"not_transposed", Machine::Fault::not_transposed},
                                           {"operands_swapped", Machine::Fault::operands_swapped},
                                           {"accumulators_swapped", Machine::Fault::accumulators_swapped},
                                           {"wait_too_short", Machine::Fault::wait_too_short},
                                           {"no_barrier", Machine::Fault::no_barrier}},
                                          fault);
  machine().seed = seed;
  machine().multiprocessors = multiprocessors;
  machine().capability = capability;
  // What the cards give one block at most.
  machine().shared_bytes = capability == 75 ? 65536 : capability == 80 ? 166912 : capability == 90 ? 232448 : 101376;
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

}  // namespace
}  // namespace nrc_fast::cuda

PYBIND11_MODULE(_cuda_emulation, module) {
  using namespace nrc_fast;
  using namespace nrc_fast::cuda;
  module.doc() = "The CUDA kernels of nrc_fast on an emulated device, for its tests.";
  bind_kernels(module);
  module.def("configure", &configure, py::arg("order") = "forward", py::arg("copies") = "late", py::arg("fault") = "",
             py::arg("seed") = 0, py::arg("multiprocessors") = 4, py::arg("capability") = 90);
  module.def("matrix_reads", [] { return machine().matrix_reads; });
  module.def("matrix_passes", [] { return machine().matrix_passes; });
  module.def("launches", [] { return machine().launches; });
  module.def("copied_bytes", [] { return machine().copied_bytes; });
  module.def("loaded_bytes", [] { return machine().loaded_bytes; });

  py::class_<WorkPlan>(module, "WorkPlan")
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
}
