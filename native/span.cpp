#include "span.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "plane.hpp"

namespace stl_ray {

namespace {
double energy(const std::vector<float>& values) {
    return std::transform_reduce(values.begin(), values.end(), 0.0, std::plus<>(),
                                 [](float value) { return double(value) * value; });
}
}  // namespace

float off_the_span(const Dictionary& dictionary, const float* v, int height, int width, std::span<const Atom> atoms,
                   const SpanSettings& settings, float* orthogonal) {
    const Packed& d = dictionary.packed();
    const Kernels& kernels = dictionary.kernels();
    const int count = int(atoms.size());
    check(dictionary, height, width, atoms);

    Image residual(height, width, d.channels, d.side), image(height, width, d.channels, d.side);
    residual.read(v);
    std::vector<Atom> direction(atoms.begin(), atoms.end());
    std::vector<float> gradient(count);
    const auto correlate = [&] {
        kernels.correlate_atoms(d, residual.plane(), direction.data(), count, gradient.data());
        return energy(gradient);
    };
    const double first = correlate();
    // Further steps would walk along combinations of atoms that cancel, where rounding is all there is.
    const double floor =
        std::max(first * settings.tolerance * settings.tolerance,
                 residual.energy() * std::numeric_limits<float>::epsilon());
    double current = first;
    for (int n = 0; n < count; ++n) direction[n].value = gradient[n];
    for (int step = 0; step < settings.steps && current > floor; ++step) {
        image.clear();
        kernels.add_atoms(d, image.plane(), direction.data(), count, 1.0f);
        residual.add(image, float(-current / image.energy()));
        const double previous = current;
        current = correlate();
        for (int n = 0; n < count; ++n) direction[n].value = gradient[n] + float(current / previous) * direction[n].value;
    }
    residual.write(orthogonal);
    return first > 0 ? float(std::sqrt(current / first)) : 0.0f;
}

}  // namespace stl_ray
