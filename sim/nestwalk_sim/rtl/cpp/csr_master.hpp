// An AXI4-Lite manager that does one register access after another.
#pragma once
#include <deque>

#include "operations.hpp"
#include "random.hpp"

struct CsrAccess {
    uint32_t handle;
    bool write;
    uint16_t offset;
    uint8_t size;       // bytes: 4 or 8
    uint64_t data;      // to be written, or what a read must equal under `mask`
    uint64_t mask = 0;  // of a read: repeat until the masked value equals `data`; 0 reads once
};

struct CsrResult {
    uint64_t data;
    uint8_t response;
};

struct CsrIn {
    bool aw_ready = false, w_ready = false, b_valid = false, ar_ready = false, r_valid = false;
    uint8_t b_response = 0, r_response = 0;
    uint64_t r_data = 0;
};

struct CsrOut {
    bool aw_valid = false, w_valid = false, b_ready = false, ar_valid = false, r_ready = false;
    uint16_t address = 0;
    uint64_t w_data = 0;
    uint8_t w_strobe = 0;
};

class CsrMaster {
  public:
    explicit CsrMaster(Operations& operations) : operations_(operations) {}

    CsrOut out;
    std::unordered_map<uint32_t, CsrResult> results;
    uint32_t skew_percent = 0;  // chance that address or data of a write waits another cycle

    void submit(const CsrAccess& access) { queue_.push_back(access); }

    void reset() {
        out = CsrOut{};
        busy_ = false;
    }

    void clock(const CsrIn& in) {
        if (in.aw_ready) out.aw_valid = false;
        if (in.w_ready) out.w_valid = false;
        if (in.ar_ready) out.ar_valid = false;
        if (out.b_ready && in.b_valid) finish(in.b_response, 0);
        if (out.r_ready && in.r_valid) finish(in.r_response, in.r_data);
        if (!busy_ && !queue_.empty()) begin();
        if (address_due_ && !random_.percent(skew_percent)) out.aw_valid = true, address_due_ = false;
        if (data_due_ && !random_.percent(skew_percent)) out.w_valid = true, data_due_ = false;
    }

  private:
    void begin() {
        const CsrAccess& access = queue_.front();
        const unsigned lane = access.offset % 8;
        busy_ = true;
        out.address = access.offset;
        if (access.write) {
            address_due_ = data_due_ = out.b_ready = true;
            out.w_data = access.data << 8 * lane;
            out.w_strobe = ((1u << access.size) - 1) << lane;
        } else {
            out.ar_valid = out.r_ready = true;
        }
    }

    void finish(uint8_t response, uint64_t bus_data) {
        const CsrAccess& access = queue_.front();
        out.b_ready = out.r_ready = false;
        busy_ = false;
        uint64_t data = bus_data >> 8 * (access.offset % 8);
        if (access.size == 4) data &= 0xffffffff;
        const bool again = !access.write && !response && access.mask && (data & access.mask) != access.data;
        if (again && operations_.state(access.handle) == PENDING) return;
        results[access.handle] = {data, response};
        operations_.finish(access.handle);
        queue_.pop_front();
    }

    Operations& operations_;
    Random random_;
    std::deque<CsrAccess> queue_;
    bool busy_ = false, address_due_ = false, data_due_ = false;
};
