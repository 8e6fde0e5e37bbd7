// What the update of filters needs to know of codes: their correlations over lags shorter than a filter.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dictionary.hpp"

namespace stl_ray {

class Statistics {
   public:
    // Zero, for `filters` filters of `side` pixels on images of `channels`.
    Statistics(int filters, int channels, int side);

    // Add the codes of an image s, (channels, height, width), on a torus of its size.
    void add(std::span<const Atom> atoms, const float* s, int height, int width);

    // sum_p z_k(p) z_l(p + lag) as (filters, filters, 2 side - 1, 2 side - 1), the lag (0, 0) in the middle.
    std::vector<float> gram() const;

    // sum_p z_k(p) s_c(p + a) as (filters, channels, side, side).
    const std::vector<float>& cross() const { return cross_; }

   private:
    int filters_, channels_, side_, lags_;
    // Of filter k, lag and filter l, in this order: with atoms sorted by filter, a row stays in the cache. Only lags
    // (i, j) with i > 0 or i = 0, j >= 0: the others mirror them.
    std::vector<float> half_;
    std::vector<float> cross_;
};

}  // namespace stl_ray
