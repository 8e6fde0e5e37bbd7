#include "active_set.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "plane.hpp"

namespace stl_ray {
namespace {

constexpr int SWEEPS = 3;            // at most, between screenings
constexpr int STREAMS = 8;           // of a sweep: neighbours in its order lie far apart, so that they overlap in time
constexpr int PICKY_ITERATIONS = 5;  // that activate local maxima only
constexpr float HOPE = 0.3f;         // share of the bound on a correlation's move that is expected while searching
constexpr float LEAST = 0.15f;        // changes under this share of the tolerance are not made

constexpr float UNKNOWN = std::numeric_limits<float>::infinity();

bool before(const Atom& a, const Atom& b) {
    return std::tie(a.row, a.column, a.filter) < std::tie(b.row, b.column, b.filter);
}

// Where coefficients have changed, in cells of at least side x side positions: patches overlap only with patches in the
// same cell and its neighbours.
class Cells {
   public:
    Cells(int height, int width, int side)
        : rows_(height / side), columns_(width / side), touched_(rows_ * columns_), near_(rows_ * columns_) {
        for (int i = 0; i < height; ++i) of_row_.push_back(std::min(i / side, rows_ - 1) * columns_);
        for (int j = 0; j < width; ++j) of_column_.push_back(std::min(j / side, columns_ - 1));
    }

    void clear() { std::fill(touched_.begin(), touched_.end(), 0); }
    void touch(const Atom& a) { touched_[cell(a)] = 1; }
    bool near_change(const Atom& a) const { return near_[cell(a)]; }

    void spread() {
        for (int i = 0; i < rows_; ++i)
            for (int j = 0; j < columns_; ++j) {
                near_[i * columns_ + j] = 0;
                for (const int row : {(i + rows_ - 1) % rows_, i, (i + 1) % rows_})
                    for (const int column : {(j + columns_ - 1) % columns_, j, (j + 1) % columns_})
                        near_[i * columns_ + j] |= touched_[row * columns_ + column];
            }
    }

   private:
    int cell(const Atom& a) const { return of_row_[a.row] + of_column_[a.column]; }

    int rows_, columns_;
    std::vector<std::int32_t> of_row_, of_column_;
    std::vector<std::uint8_t> touched_, near_;
};

class Solver {
   public:
    Solver(const Dictionary& dictionary, int height, int width, const Settings& settings)
        : dictionary_(dictionary),
          d_(dictionary.packed()),
          kernels_(dictionary.kernels()),
          settings_(settings),
          limit_(settings.lambda * (1 + settings.violation)),
          height_(height),
          width_(width),
          words_((d_.filters + 63) / 64),
          residual_(height, width, d_.channels, d_.side),
          previous_(height, width, d_.channels, d_.side),
          zero_(height, width, d_.channels, d_.side),
          largest_(height * width, 0.0f),
          moved_(height * width, 0.0f),
          which_(height * width),
          active_(std::size_t(height) * width * words_, 0),
          scratch_(std::size_t(height) * width + 2 * (width + d_.side)),
          cells_(height, width, d_.side) {}

    Solution run(const float* highpass, std::span<const Atom> start, float* synthesis) {
        begin(highpass, start);
        Solution solution{{}, Status::max_iterations, settings_.max_iterations};
        float change = UNKNOWN;
        for (int iteration = 1; iteration <= settings_.max_iterations; ++iteration) {
            bool found = search(iteration > 1 ? HOPE : 1.0f, iteration <= PICKY_ITERATIONS) || certify();
            if (atoms_.empty()) change = 0;
            if (!found && change <= settings_.change * settings_.lambda) {
                refresh(highpass);
                found = certify();
            }
            if (!found && change <= settings_.change * settings_.lambda) {
                solution.status = Status::converged;
                solution.iterations = iteration;
                break;
            }
            activate();
            change = descend();
            if (!std::isfinite(change)) break;  // overflow
        }
        Image& image = zero_;  // needed no more
        kernels_.add_atoms(d_, image.plane(), atoms_.data(), int(atoms_.size()), 1.0f);
        image.write(synthesis);
        if (!image.finite() || !residual_.finite() || std::isinf(change)) solution.status = Status::diverged;
        std::sort(atoms_.begin(), atoms_.end(), [](const Atom& a, const Atom& b) {
            return std::tie(a.filter, a.row, a.column) < std::tie(b.filter, b.row, b.column);
        });
        solution.atoms = std::move(atoms_);
        return solution;
    }

   private:
    int position(const Atom& a) const { return a.row * width_ + a.column; }

    void mark(const Atom& a, bool active) {
        const std::uint64_t bit = std::uint64_t(1) << (a.filter % 64);
        std::uint64_t& word = active_[std::size_t(position(a)) * words_ + a.filter / 64];
        word = active ? word | bit : word & ~bit;
    }

    void begin(const float* highpass, std::span<const Atom> start) {
        residual_.read(highpass);
        atoms_.assign(start.begin(), start.end());
        std::sort(atoms_.begin(), atoms_.end(), before);
        for (const Atom& a : atoms_) mark(a, true), cells_.touch(a);
        kernels_.add_atoms(d_, residual_.plane(), atoms_.data(), int(atoms_.size()), -1.0f);
        // From nothing: |d_k^T r| <= ||d_k|| ||r||.
        kernels_.add_distances(residual_.plane(), zero_.plane(), dictionary_.largest_norm(), moved_.data(),
                               scratch_.data());
    }

    // The residual anew: rounding has gathered in it, the more the larger the start was.
    void refresh(const float* highpass) {
        previous_.copy(residual_);
        residual_.read(highpass);
        kernels_.add_atoms(d_, residual_.plane(), atoms_.data(), int(atoms_.size()), -1.0f);
        kernels_.add_distances(residual_.plane(), previous_.plane(), dictionary_.largest_norm(), moved_.data(),
                               scratch_.data());
    }

    // Whether violators were found in reduced precision, where `share` of the bound on what has moved allows for any.
    bool search(float share, bool picky) {
        choose(moved_, share);
        kernels_.coarsen(residual_.plane());
        look(kernels_.screen_coarsely);
        std::erase_if(positions_, [&](int p) { return largest_[p] <= limit_ || (picky && overshadowed(p)); });
        // What is within rounding of the limit must not come back for ever.
        if (!picky && kernels_.coarse_error > 0) look(kernels_.screen);
        return collect();
    }

    // Whether there are violators, for certain.
    bool certify() {
        if (search(1.0f, false)) return true;
        if (kernels_.coarse_error == 0) return false;
        bound_ = moved_;
        kernels_.add_distances(residual_.plane(), zero_.plane(), kernels_.coarse_error * dictionary_.largest_norm(),
                               bound_.data(), scratch_.data());
        choose(bound_, 1.0f + kernels_.coarse_error);  // the error was made before the residual moved
        look(kernels_.screen);
        return collect();
    }

    void choose(const std::vector<float>& moved, float share) {
        positions_.resize(height_ * width_);
        positions_.resize(
            kernels_.choose(largest_.data(), moved.data(), share, limit_, height_ * width_, positions_.data()));
    }

    void look(void (*screen)(const Packed&, const Plane&, const Screening&)) {
        best_.resize(positions_.size());
        found_.resize(positions_.size());
        screen(d_, residual_.plane(),
               {positions_.data(), int(positions_.size()), active_.data(), words_, limit_, best_.data(), found_.data()});
        for (std::size_t n = 0; n < positions_.size(); ++n) {
            largest_[positions_[n]] = best_[n];
            which_[positions_[n]] = found_[n];
            moved_[positions_[n]] = 0;
        }
    }

    // Whether there are violators at positions_; they are the next to be activated.
    bool collect() {
        fresh_.clear();
        for (const int p : positions_)
            if (largest_[p] > limit_) fresh_.push_back({which_[p], p / width_, p % width_, 0.0f});
        return !fresh_.empty();
    }

    // Whether one of the eight neighbours correlates better.
    bool overshadowed(int p) const {
        const int row = p / width_, column = p % width_;
        for (const int i : {row > 0 ? row - 1 : height_ - 1, row, row + 1 < height_ ? row + 1 : 0})
            for (const int j : {column > 0 ? column - 1 : width_ - 1, column, column + 1 < width_ ? column + 1 : 0}) {
                const int q = i * width_ + j;
                if (largest_[q] > largest_[p] || (largest_[q] == largest_[p] && q < p)) return true;
            }
        return false;
    }

    void activate() {
        for (const Atom& a : fresh_) mark(a, true);
        joined_.resize(atoms_.size() + fresh_.size());
        std::merge(atoms_.begin(), atoms_.end(), fresh_.begin(), fresh_.end(), joined_.begin(), before);
        atoms_.swap(joined_);
    }

    // The last sweep's largest change.
    float descend() {
        previous_.copy(residual_);
        changed_.assign(atoms_.size(), 0);
        for (const Atom& a : fresh_) cells_.touch(a);
        const float tolerance = settings_.change * settings_.lambda;
        float change = UNKNOWN;
        for (int sweep = 0; sweep < SWEEPS && change > tolerance; ++sweep) {
            arrange(sweep % 2 == 1);
            change = kernels_.sweep(d_, residual_.plane(), atoms_.data(), order_.data(), int(order_.size()),
                                    settings_.lambda, LEAST * tolerance, changed_.data());
            cells_.clear();
            for (const int n : order_)
                if (changed_[n]) cells_.touch(atoms_[n]);
        }
        kernels_.add_distances(residual_.plane(), previous_.plane(), dictionary_.largest_norm(), moved_.data(),
                               scratch_.data());
        std::erase_if(atoms_, [this](const Atom& a) {
            if (a.value != 0) return false;
            mark(a, false);
            largest_[position(a)] = UNKNOWN;  // screening left this filter out
            return true;
        });
        return change;
    }

    // The order of the next sweep: atoms next to which something has changed since they were visited.
    void arrange(bool backwards) {
        cells_.spread();
        pending_.clear();
        for (int n = 0; n < int(atoms_.size()); ++n)
            if (cells_.near_change(atoms_[n])) pending_.push_back(n);
        const int count = int(pending_.size()), length = (count + STREAMS - 1) / STREAMS;
        order_.clear();
        for (int n = 0; n < length; ++n)
            for (int stream = 0; stream < STREAMS; ++stream)
                if (stream * length + n < count) order_.push_back(pending_[stream * length + n]);
        if (backwards) std::reverse(order_.begin(), order_.end());
    }

    const Dictionary& dictionary_;
    const Packed& d_;
    const Kernels& kernels_;
    const Settings settings_;
    const float limit_;
    const int height_, width_, words_;
    Image residual_, previous_, zero_;
    std::vector<float> largest_;  // of the inactive filters' correlations, when the position was last screened
    std::vector<float> moved_;    // how far they may have moved since
    std::vector<float> bound_;    // the same with the error of coarse screening
    std::vector<std::int32_t> which_;
    std::vector<std::uint64_t> active_;
    std::vector<Atom> atoms_, fresh_, joined_;
    std::vector<std::int32_t> positions_, found_, pending_, order_;
    std::vector<std::uint8_t> changed_;
    std::vector<float> best_, scratch_;
    Cells cells_;
};

}  // namespace

Solution solve(const Dictionary& dictionary, const float* highpass, int height, int width, const Settings& settings,
               std::span<const Atom> start, float* synthesis) {
    check(dictionary, height, width, start);
    return Solver(dictionary, height, width, settings).run(highpass, start, synthesis);
}

}  // namespace stl_ray
