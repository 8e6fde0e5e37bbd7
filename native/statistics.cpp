#include "statistics.hpp"

#include <algorithm>
#include <stdexcept>

namespace stl_ray {

Statistics::Statistics(int filters, int channels, int side)
    : filters_(filters),
      channels_(channels),
      side_(side),
      lags_(side + (side - 1) * (2 * side - 1)),
      half_(std::size_t(filters) * std::size_t(lags_) * std::size_t(filters)),
      cross_(std::size_t(filters) * std::size_t(channels) * std::size_t(side) * std::size_t(side)) {}

void Statistics::add(std::span<const Atom> atoms, const float* s, int height, int width) {
    for (const Atom& a : atoms)
        if (a.filter < 0 || a.filter >= filters_ || a.row < 0 || a.row >= height || a.column < 0 || a.column >= width)
            throw std::invalid_argument("a coefficient outside its map");
    // The atoms by position: those of pixel p are order[first[p]] .. order[first[p + 1] - 1].
    std::vector<std::int32_t> first(std::size_t(height) * std::size_t(width) + 1);
    const auto pixel = [&](int row, int column) { return std::size_t(row) * std::size_t(width) + std::size_t(column); };
    for (const Atom& a : atoms) ++first[pixel(a.row, a.column) + 1];
    for (std::size_t p = 1; p < first.size(); ++p) first[p] += first[p - 1];
    std::vector<Atom> order(atoms.size());
    std::vector<std::int32_t> next(first.begin(), first.end() - 1);
    for (const Atom& a : atoms) order[std::size_t(next[pixel(a.row, a.column)]++)] = a;

    for (const Atom& a : atoms) {
        float* lag = half_.data() + std::size_t(a.filter) * std::size_t(lags_) * std::size_t(filters_);
        for (int i = 0; i < side_; ++i)
            for (int j = i ? 1 - side_ : 0; j < side_; ++j, lag += filters_) {
                // A lag may lead round a small torus more than once.
                const std::size_t p = pixel((a.row + i) % height, ((a.column + j) % width + width) % width);
                for (std::int32_t n = first[p]; n < first[p + 1]; ++n) {
                    const Atom& b = order[std::size_t(n)];
                    lag[b.filter] += a.value * b.value;
                }
            }
        float* out = cross_.data() + std::size_t(a.filter) * std::size_t(channels_) * std::size_t(side_) * std::size_t(side_);
        for (int c = 0; c < channels_; ++c)
            for (int i = 0; i < side_; ++i) {
                const float* line = s + pixel((a.row + i) % height, 0) + std::size_t(c) * std::size_t(height) * std::size_t(width);
                for (int j = 0; j < side_; ++j) *out++ += a.value * line[(a.column + j) % width];
            }
    }
}

std::vector<float> Statistics::gram() const {
    const int span = 2 * side_ - 1;
    std::vector<float> full(std::size_t(filters_) * std::size_t(filters_) * std::size_t(span) * std::size_t(span));
    const auto at = [&](int k, int l, int i, int j) -> float& {
        const std::size_t row = (std::size_t(k) * std::size_t(filters_) + std::size_t(l)) * std::size_t(span);
        return full[(row + std::size_t(i + side_ - 1)) * std::size_t(span) + std::size_t(j + side_ - 1)];
    };
    const float* value = half_.data();
    for (int k = 0; k < filters_; ++k)
        for (int i = 0; i < side_; ++i)
            for (int j = i ? 1 - side_ : 0; j < side_; ++j)
                for (int l = 0; l < filters_; ++l) {
                    at(k, l, i, j) = *value;
                    at(l, k, -i, -j) = *value++;
                }
    return full;
}

}  // namespace stl_ray
