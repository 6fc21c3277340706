// The channels of an AXI4 port: what the manager drives (AxiIn) and what the subordinate does (AxiOut).
#pragma once
#include <array>
#include <cstdint>

#include "layout.hpp"

enum Response : uint8_t { OKAY = 0, EXOKAY = 1, SLVERR = 2, DECERR = 3, NO_RESPONSE = 255 };
enum Moment : uint8_t { MOMENT_EARLY = 0, MOMENT_LATE = 1, MOMENT_RANDOM = 2 };

using Beat = std::array<uint8_t, DATA_BYTES>;

struct AddressChannel {
    bool valid = false;
    uint16_t id = 0;
    uint64_t address = 0;
    uint8_t beats = 0, size = 0, burst = 0, lock = 0;  // beats as AxLEN: their number less one

    bool operator==(const AddressChannel& other) const {
        return valid == other.valid && id == other.id && address == other.address && beats == other.beats &&
               size == other.size && burst == other.burst && lock == other.lock;
    }
};

struct WriteBeat {
    bool valid = false;
    Beat data{};
    uint64_t strobe = 0;
    bool last = false;

    bool operator==(const WriteBeat& other) const {
        return valid == other.valid && data == other.data && strobe == other.strobe && last == other.last;
    }
};

struct AxiIn {
    AddressChannel ar, aw;
    WriteBeat w;
    bool r_ready = false, b_ready = false;
};

struct AxiOut {
    bool ar_ready = false, aw_ready = false, w_ready = false;
    bool r_valid = false, r_last = false, b_valid = false;
    uint16_t r_id = 0, b_id = 0;
    uint8_t r_response = 0, b_response = 0;
    Beat r_data{};
};
