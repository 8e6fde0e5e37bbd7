#include "dictionary.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "instruction_sets.hpp"

namespace stl_ray {

namespace {

int rounded(int n, int to) { return (n + to - 1) / to * to; }

// Round to nearest, ties to even.
std::uint16_t bfloat16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    return std::uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

Dictionary::Dictionary(const float* filters, int count, int channels, int side, const std::string& instruction_set)
    : instruction_set_(build_for(instruction_set).name) {
    if (count < 1 || channels < 1 || side < 1) throw std::invalid_argument("a dictionary without filters");
    kernels_ = &build_for(instruction_set_).kernels[side == 8 && channels == 3];

    const int run = side * channels, padded = rounded(run, kernels_->vector / 2), lanes = rounded(count, kernels_->block);
    const int pairs = (run + 1) / 2;
    atoms_.assign(std::size_t(count) * side * padded, 0.0f);
    transposed_.assign(std::size_t(side) * run * lanes, 0.0f);
    coarse_.assign(std::size_t(side) * pairs * lanes * 2, 0);
    for (int k = 0; k < count; ++k) {
        double energy = 0;
        for (int c = 0; c < channels; ++c)
            for (int i = 0; i < side; ++i)
                for (int j = 0; j < side; ++j) {
                    const float value = *filters++;
                    const int t = j * channels + c;
                    atoms_[(std::size_t(k) * side + i) * padded + t] = value;
                    transposed_[(std::size_t(i) * run + t) * lanes + k] = value;
                    coarse_[((std::size_t(i) * pairs + t / 2) * lanes + k) * 2 + t % 2] = bfloat16(value);
                    energy += double(value) * value;
                }
        energy_.push_back(float(energy));
        inverse_energy_.push_back(float(1 / energy));
        largest_norm_ = std::max(largest_norm_, float(std::sqrt(energy)));
    }
    packed_ = {.filters = count,
               .channels = channels,
               .side = side,
               .run = run,
               .padded = padded,
               .pairs = pairs,
               .lanes = lanes,
               .atoms = atoms_.data(),
               .energy = energy_.data(),
               .inverse_energy = inverse_energy_.data(),
               .transposed = transposed_.data(),
               .coarse = coarse_.data()};
}

void check(const Dictionary& dictionary, int height, int width, std::span<const Atom> atoms) {
    const Packed& d = dictionary.packed();
    if (height < d.side || width < d.side) throw std::invalid_argument("the image is smaller than the filters");
    if (std::int64_t(height) * (width + 3 * d.side) * d.channels > std::numeric_limits<std::int32_t>::max() / 2)
        throw std::invalid_argument("the image is too large for 32-bit offsets");
    for (const Atom& a : atoms)
        if (a.filter < 0 || a.filter >= d.filters || a.row < 0 || a.row >= height || a.column < 0 || a.column >= width)
            throw std::invalid_argument("a coefficient outside of the image");
}

}  // namespace stl_ray
