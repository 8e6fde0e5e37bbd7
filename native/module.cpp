// The Python module stl_ray.csc._native: the native core on NumPy arrays. It checks shapes; types, memory layout and
// device are checked by nanobind, without conversion. Work runs without the interpreter lock.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "active_set.hpp"
#include "batch.hpp"
#include "instruction_sets.hpp"
#include "span.hpp"
#include "split_bregman.hpp"
#include "statistics.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using Filters = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;  // (K, C, S, S)
using Images = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;   // (B, C, H, W)
using Masks = nb::ndarray<const bool, nb::ndim<4>, nb::c_contig, nb::device::cpu>;     // (B, C, H, W)
using Weights = nb::ndarray<const float, nb::shape<2, 5>, nb::c_contig, nb::device::cpu>;
template <class T>
using Column = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Coefficients of a batch by columns: those of image b are entries offsets[b] .. offsets[b + 1] - 1 of the others.
using Atoms = std::tuple<Column<std::int64_t>, Column<std::int32_t>, Column<std::int32_t>, Column<std::int32_t>,
                         Column<float>>;

template <class T>
nb::object array(std::vector<T> values, std::vector<std::size_t> shape) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, T>(kept->data(), shape.size(), shape.data(), owner));
}

std::vector<std::vector<stl_ray::Atom>> unpacked(const Atoms& columns, std::size_t batch) {
    const auto& [offsets, filter, row, column, value] = columns;
    const std::size_t count = filter.shape(0);
    if (offsets.shape(0) != batch + 1 || row.shape(0) != count || column.shape(0) != count || value.shape(0) != count)
        throw std::invalid_argument("coefficients whose columns do not fit together or do not fit the images");
    if (offsets(0) != 0 || offsets(batch) != std::int64_t(count))
        throw std::invalid_argument("coefficients that their offsets do not span");
    std::vector<std::vector<stl_ray::Atom>> atoms(batch);
    for (std::size_t b = 0; b < batch; ++b) {
        if (offsets(b) > offsets(b + 1) || offsets(b + 1) > std::int64_t(count))
            throw std::invalid_argument("coefficients whose offsets decrease");
        for (std::int64_t n = offsets(b); n < offsets(b + 1); ++n)
            atoms[b].push_back({filter(n), row(n), column(n), value(n)});
    }
    return atoms;
}

void check(const stl_ray::Dictionary& dictionary, const Images& images, int threads) {
    if (int(images.shape(1)) != dictionary.packed().channels)
        throw std::invalid_argument("images of other channels than the filters");
    if (threads < 1) throw std::invalid_argument("fewer threads than one");
}

nb::tuple solve(const stl_ray::Dictionary& dictionary, const Images& highpass, float lambda, float violation,
                float change, int max_iterations, const std::optional<Atoms>& start, int threads) {
    const std::size_t batch = highpass.shape(0), channels = highpass.shape(1);
    const std::size_t height = highpass.shape(2), width = highpass.shape(3);
    check(dictionary, highpass, threads);
    const stl_ray::Settings settings{
        .lambda = lambda, .violation = violation, .change = change, .max_iterations = max_iterations};
    std::vector<float> synthesis(highpass.size());
    std::vector<std::int64_t> offsets{0}, status, iterations;
    std::vector<std::int32_t> filter, row, column;
    std::vector<float> value;
    {
        std::vector<std::vector<stl_ray::Atom>> warm(batch);
        if (start) warm = unpacked(*start, batch);
        nb::gil_scoped_release release;
        const std::size_t size = channels * height * width;
        std::vector<stl_ray::Solution> solutions(batch);
        stl_ray::for_each_image(int(batch), threads, [&](int b) {
            solutions[b] = stl_ray::solve(dictionary, highpass.data() + b * size, int(height), int(width), settings,
                                          warm[b], synthesis.data() + b * size);
        });
        for (const stl_ray::Solution& solution : solutions) {
            for (const stl_ray::Atom& atom : solution.atoms) {
                filter.push_back(atom.filter);
                row.push_back(atom.row);
                column.push_back(atom.column);
                value.push_back(atom.value);
            }
            offsets.push_back(std::int64_t(filter.size()));
            status.push_back(std::int64_t(solution.status));
            iterations.push_back(solution.iterations);
        }
    }
    const std::size_t count = filter.size();
    return nb::make_tuple(array(std::move(offsets), {batch + 1}), array(std::move(filter), {count}),
                          array(std::move(row), {count}), array(std::move(column), {count}),
                          array(std::move(value), {count}),
                          array(std::move(synthesis), {batch, channels, height, width}),
                          array(std::move(status), {batch}), array(std::move(iterations), {batch}));
}

nb::tuple off_the_span(const stl_ray::Dictionary& dictionary, const Images& images, const Atoms& atoms, int steps,
                       float tolerance, int threads) {
    const std::size_t batch = images.shape(0), size = images.size() / std::max<std::size_t>(batch, 1);
    check(dictionary, images, threads);
    std::vector<float> orthogonal(images.size()), residual(batch);
    {
        const std::vector<std::vector<stl_ray::Atom>> spans = unpacked(atoms, batch);
        nb::gil_scoped_release release;
        stl_ray::for_each_image(int(batch), threads, [&](int b) {
            residual[b] =
                stl_ray::off_the_span(dictionary, images.data() + b * size, int(images.shape(2)), int(images.shape(3)),
                                      spans[b], {.steps = steps, .tolerance = tolerance}, orthogonal.data() + b * size);
        });
    }
    return nb::make_tuple(array(std::move(orthogonal), {batch, images.shape(1), images.shape(2), images.shape(3)}),
                          array(std::move(residual), {batch}));
}

nb::tuple code_statistics(const Atoms& atoms, const Images& highpass, int filters, int side) {
    if (filters < 1 || side < 1) throw std::invalid_argument("no filters");
    const std::size_t batch = highpass.shape(0), size = highpass.size() / std::max<std::size_t>(batch, 1);
    const std::size_t k = std::size_t(filters), s = std::size_t(side), span = 2 * s - 1;
    stl_ray::Statistics statistics(filters, int(highpass.shape(1)), side);
    std::vector<float> gram;
    {
        const std::vector<std::vector<stl_ray::Atom>> codes = unpacked(atoms, batch);
        nb::gil_scoped_release release;
        for (std::size_t b = 0; b < batch; ++b)
            statistics.add(codes[b], highpass.data() + b * size, int(highpass.shape(2)), int(highpass.shape(3)));
        gram = statistics.gram();
    }
    std::vector<float> cross = statistics.cross();
    return nb::make_tuple(array(std::move(gram), {k, k, span, span}),
                          array(std::move(cross), {k, highpass.shape(1), s, s}));
}

nb::object split_bregman(const Images& images, const Masks& kept, double lambda, bool isotropic, int sweeps,
                         double tolerance, int max_iterations, const Weights& scale, const Weights& share,
                         int threads, const std::string& instruction_set) {
    const std::size_t batch = images.shape(0), size = images.size() / std::max<std::size_t>(batch, 1);
    for (std::size_t axis = 0; axis < 4; ++axis)
        if (kept.shape(axis) != images.shape(axis)) throw std::invalid_argument("a mask of another shape than the images");
    stl_ray::BregmanSettings settings{.lambda = lambda,
                                      .isotropic = isotropic,
                                      .sweeps = sweeps,
                                      .tolerance = tolerance,
                                      .max_iterations = max_iterations,
                                      .scale = {},
                                      .share = {}};
    std::copy_n(scale.data(), scale.size(), settings.scale[0]);
    std::copy_n(share.data(), share.size(), settings.share[0]);
    if (sweeps < 1 || max_iterations < 1 || threads < 1) throw std::invalid_argument("fewer than one");
    const stl_ray::BregmanSolver solver(int(images.shape(1)), int(images.shape(2)), int(images.shape(3)), settings,
                                        instruction_set);
    std::vector<float> restored(images.size());
    {
        nb::gil_scoped_release release;
        stl_ray::for_each_image(int(batch), threads, [&](int b) {
            solver.solve(images.data() + b * size, kept.data() + b * size, restored.data() + b * size);
        });
    }
    return array(std::move(restored), {batch, images.shape(1), images.shape(2), images.shape(3)});
}

}  // namespace

NB_MODULE(_native, m) {
    m.def("instruction_sets", &stl_ray::instruction_sets);
    nb::class_<stl_ray::Dictionary>(m, "Dictionary")
        .def(
            "__init__",
            [](stl_ray::Dictionary* self, const Filters& filters, const std::string& instruction_set) {
                if (filters.shape(2) != filters.shape(3)) throw std::invalid_argument("filters that are not square");
                new (self) stl_ray::Dictionary(filters.data(), int(filters.shape(0)), int(filters.shape(1)),
                                               int(filters.shape(2)), instruction_set);
            },
            "filters"_a.noconvert(), "instruction_set"_a = "")
        .def_prop_ro("instruction_set", &stl_ray::Dictionary::instruction_set);
    m.def("solve", &solve, "dictionary"_a, "highpass"_a.noconvert(), nb::kw_only(), "lmbda"_a, "violation"_a,
          "change"_a, "max_iterations"_a, "start"_a.noconvert() = nb::none(), "threads"_a = 1);
    m.def("off_the_span", &off_the_span, "dictionary"_a, "images"_a.noconvert(), "atoms"_a.noconvert(), nb::kw_only(),
          "steps"_a, "tolerance"_a = 0.0f, "threads"_a = 1);
    m.def("code_statistics", &code_statistics, "atoms"_a.noconvert(), "highpass"_a.noconvert(), nb::kw_only(),
          "filters"_a, "side"_a);
    m.def("split_bregman", &split_bregman, "images"_a.noconvert(), "kept"_a.noconvert(), nb::kw_only(), "lmbda"_a,
          "isotropic"_a, "sweeps"_a, "tolerance"_a, "max_iterations"_a, "scale"_a.noconvert(),
          "share"_a.noconvert(), "threads"_a = 1, "instruction_set"_a = "");
}
