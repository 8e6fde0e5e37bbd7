// The memory of a Plane.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.hpp"

namespace stl_ray {

class Image {
   public:
    // Zero, for filters of `side`.
    Image(int height, int width, int channels, int side);
    Image(const Image&) = delete;

    const Plane& plane() const { return plane_; }
    void read(const float* pixels);         // from (channels, height, width)
    void write(float* pixels) const;        // to (channels, height, width)
    void copy(const Image& other);          // of the same shape
    void clear();
    void add(const Image& other, float factor);
    double energy() const;  // sum of squares
    bool finite() const;

   private:
    std::vector<std::int32_t> rows_;
    std::vector<float> data_;
    std::vector<std::uint16_t> coarse_;
    Plane plane_{};
};

}  // namespace stl_ray
