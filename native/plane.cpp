#include "plane.hpp"

#include <algorithm>
#include <cmath>

namespace stl_ray {

namespace {
constexpr int SLACK = 32;  // floats that vector loops may touch behind a row
}

Image::Image(int height, int width, int channels, int side) : rows_(height + side - 1) {
    const int margin = side - 1;
    const int stride = (width + 3 * margin) * channels + SLACK;
    for (int i = 0; i < height + margin; ++i) rows_[i] = i % height * stride;
    data_.assign(std::size_t(height) * stride, 0.0f);
    coarse_.assign(data_.size(), 0);
    plane_ = {data_.data() + margin * channels, coarse_.data() + margin * channels, rows_.data(), height, width, channels,
              side};
}

void Image::read(const float* pixels) {
    const auto& [data, coarse, rows, height, width, channels, side] = plane_;
    for (int c = 0; c < channels; ++c)
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j) data[rows[i] + j * channels + c] = *pixels++;
    for (int i = 0; i < height; ++i)
        std::copy_n(data + rows[i], (side - 1) * channels, data + rows[i] + width * channels);
}

void Image::write(float* pixels) const {
    const auto& [data, coarse, rows, height, width, channels, side] = plane_;
    for (int c = 0; c < channels; ++c)
        for (int i = 0; i < height; ++i)
            for (int j = 0; j < width; ++j) *pixels++ = data[rows[i] + j * channels + c];
}

void Image::copy(const Image& other) { std::copy(other.data_.begin(), other.data_.end(), data_.begin()); }

void Image::clear() { std::fill(data_.begin(), data_.end(), 0.0f); }

void Image::add(const Image& other, float factor) {
    for (std::size_t n = 0; n < data_.size(); ++n) data_[n] += factor * other.data_[n];
}

double Image::energy() const {
    double total = 0;
    for (int i = 0; i < plane_.height; ++i) {
        const float* row = plane_.data + plane_.rows[i];
        for (int j = 0; j < plane_.width * plane_.channels; ++j) total += double(row[j]) * row[j];
    }
    return total;
}

bool Image::finite() const {
    return std::all_of(data_.begin(), data_.end(), [](float value) { return std::isfinite(value); });
}

}  // namespace stl_ray
