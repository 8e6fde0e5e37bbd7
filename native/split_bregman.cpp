#include "split_bregman.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace stl_ray {

namespace {

constexpr int LONGEST_VECTOR = 16;
constexpr int CHUNK = 128;  // at least: so that the loops over small images are not too short

// Of a BregmanPlane, two colours each.
constexpr int FIELDS = 7;

std::int32_t rounded(std::int32_t n, std::int32_t to) { return (n + to - 1) / to * to; }

}  // namespace

BregmanSolver::BregmanSolver(int channels, int height, int width, const BregmanSettings& settings,
                             const std::string& instruction_set)
    : kernels_(*build_for(instruction_set).bregman),
      settings_(settings),
      channels_(channels),
      height_(height),
      width_(width),
      pitch_(width + 1 + width % 2) {
    if (channels < 1 || height < 1 || width < 1) throw std::invalid_argument("an image without pixels");
    if ((std::int64_t(height) + 2) * (std::int64_t(width) + 2) > std::numeric_limits<std::int32_t>::max() / 2)
        throw std::invalid_argument("the image is too large for 32-bit offsets");
    const std::int32_t half = pitch_ / 2, cells = ((height + 1) * pitch_ + 1) / 2;
    const std::int32_t chunk = rounded(std::max(half + 1, CHUNK), LONGEST_VECTOR), chunks = (cells + chunk - 1) / chunk;
    board_ = {.half = half, .cells = cells, .chunk = chunk, .chunks = chunks, .inside = {}};
    size_ = (chunks + 2) * chunk;
    inside_.assign(std::size_t(4) * size_, 0.0f);
    float* room = inside_.data();
    for (Colours& inside : board_.inside) inside = colours(room);
    for (int row = 0; row < height; ++row)
        for (int column = 0; column < width; ++column) {
            const std::int32_t at = address(row, column);
            board_.inside[0].of[at % 2][at / 2] = column + 1 < width;
            board_.inside[1].of[at % 2][at / 2] = row + 1 < height;
        }
}

Colours BregmanSolver::colours(float*& room) const {
    float* first = room + board_.chunk;
    room += 2 * std::size_t(size_);
    return {{first, first + size_}};
}

BregmanPlane BregmanSolver::read(float* room, const float* image, const bool* kept) const {
    BregmanPlane plane{};
    for (Colours* field : {&plane.u, &plane.before, &plane.scale, &plane.data, &plane.constant, &plane.b[0], &plane.b[1]})
        *field = colours(room);
    for (int row = 0; row < height_; ++row)
        for (int column = 0; column < width_; ++column, ++image, ++kept) {
            const std::int32_t at = address(row, column), cell = at / 2;
            const int colour = at % 2, neighbours = (row > 0) + (row + 1 < height_) + (column > 0) + (column + 1 < width_);
            // No branch that depends on the mask, which nobody can predict.
            const float value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(*image) & -std::uint32_t(*kept));
            plane.u.of[colour][cell] = plane.before.of[colour][cell] = value;
            plane.scale.of[colour][cell] = settings_.scale[*kept][neighbours];
            const float data = settings_.share[*kept][neighbours] * value;
            plane.data.of[colour][cell] = plane.constant.of[colour][cell] = data;
        }
    return plane;
}

void BregmanSolver::solve(const float* image, const bool* kept, float* restored) const {
    const std::size_t pixels = std::size_t(height_) * width_, field = 2 * std::size_t(size_);
    std::vector<float, Aligned<float>> room((channels_ * FIELDS + 2) * field), squares(std::size_t(channels_) * board_.cells);
    float* free = room.data();
    const Colours right = colours(free), below = colours(free);
    std::vector<BregmanPlane> planes;
    for (int c = 0; c < channels_; ++c, free += FIELDS * field)
        planes.push_back(read(free, image + c * pixels, kept + c * pixels));

    for (int iteration = 1;; ++iteration) {
        for (int c = 0; c < channels_; ++c) {
            kernels_.sweep(board_, planes[c], settings_.sweeps);
            kernels_.squared_change(board_, planes[c], squares.data() + std::size_t(c) * board_.cells);
        }
        if (iteration == settings_.max_iterations) break;
        const double total = kernels_.sum(squares.data(), std::int64_t(squares.size()));
        if (!(std::sqrt(total / double(channels_ * pixels)) > settings_.tolerance)) break;
        for (const BregmanPlane& plane : planes)
            if (settings_.isotropic) kernels_.shrink(board_, plane, float(settings_.lambda), right, below);
            else kernels_.clip(board_, plane, float(1 / settings_.lambda), right, below);
    }
    for (const BregmanPlane& plane : planes)
        for (int row = 0; row < height_; ++row)
            for (int column = 0; column < width_; ++column) {
                const std::int32_t at = address(row, column);
                *restored++ = plane.u.of[at % 2][at / 2];
            }
}

}  // namespace stl_ray
