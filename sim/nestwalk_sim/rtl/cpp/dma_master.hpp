// A device on the `dma` port: an AXI4 manager that does one burst after another.
#pragma once
#include <algorithm>
#include <cstring>
#include <deque>
#include <unordered_map>
#include <vector>

#include "axi.hpp"
#include "operations.hpp"

struct DmaAccess {
    uint32_t handle = 0;
    bool write = false;
    uint64_t address = 0;  // of the first byte; the burst is aligned to whole beats and stays in a page
    unsigned size = 0;     // bytes
    uint16_t source_id = 0;
    bool pasid_valid = false;
    uint32_t pasid = 0;
    std::vector<uint8_t> data;  // to be written, or what was read

    uint64_t start() const { return address / DATA_BYTES * DATA_BYTES; }
    unsigned beats() const { return (address + size + DATA_BYTES - 1) / DATA_BYTES - address / DATA_BYTES; }
};

struct DmaResult {
    std::vector<uint8_t> data;
    uint8_t response = OKAY;  // the worst of all beats
};

struct DmaIn {
    bool ar_ready = false, aw_ready = false, w_ready = false, r_valid = false, r_last = false, b_valid = false;
    uint8_t r_response = 0, b_response = 0;
    Beat r_data{};
};

struct DmaOut {
    bool ar_valid = false, aw_valid = false, w_valid = false, r_ready = false, b_ready = false;
    WriteBeat w;
};

class DmaMaster {
  public:
    explicit DmaMaster(Operations& operations) : operations_(operations) {}

    DmaOut out;
    DmaAccess access;  // the one under way
    std::unordered_map<uint32_t, DmaResult> results;

    void submit(DmaAccess next) { queue_.push_back(std::move(next)); }

    void reset() {
        out = DmaOut{};
        busy_ = false;
        queue_.clear();
    }

    void clock(const DmaIn& in) {
        if (in.ar_ready) out.ar_valid = false;
        if (in.aw_ready) out.aw_valid = false;
        if (out.w_valid && in.w_ready) offer_beat();
        if (out.r_ready && in.r_valid) take_beat(in);
        if (out.b_ready && in.b_valid) finish(in.b_response);
        if (!busy_ && !queue_.empty()) begin();
    }

  private:
    void begin() {
        access = std::move(queue_.front());
        queue_.pop_front();
        busy_ = true;
        beat_ = 0;
        worst_ = OKAY;
        if (access.write) {
            out.aw_valid = out.b_ready = true;
            offer_beat();
        } else {
            access.data.assign(access.size, 0);
            out.ar_valid = out.r_ready = true;
        }
    }

    // The next beat of the data, with strobes for the bytes that belong to the access.
    void offer_beat() {
        out.w_valid = beat_ < access.beats();
        if (!out.w_valid) return;
        out.w = WriteBeat{};
        each_byte([&](unsigned lane, uint8_t& byte) {
            out.w.data[lane] = byte;
            out.w.strobe |= uint64_t(1) << lane;
        });
        out.w.last = ++beat_ == access.beats();
    }

    void take_beat(const DmaIn& in) {
        each_byte([&](unsigned lane, uint8_t& byte) { byte = in.r_data[lane]; });
        worst_ = std::max(worst_, in.r_response);
        if (++beat_ == access.beats()) finish(worst_);
    }

    template <class Use> void each_byte(Use use) {
        for (unsigned lane = 0; lane < DATA_BYTES; lane++) {
            const uint64_t at = access.start() + uint64_t(beat_) * DATA_BYTES + lane;
            if (at >= access.address && at < access.address + access.size) use(lane, access.data[at - access.address]);
        }
    }

    void finish(uint8_t response) {
        out.r_ready = out.b_ready = false;
        busy_ = false;
        results[access.handle] = {std::move(access.data), response};
        operations_.finish(access.handle);
    }

    Operations& operations_;
    std::deque<DmaAccess> queue_;
    bool busy_ = false;
    unsigned beat_ = 0;
    uint8_t worst_ = OKAY;
};
