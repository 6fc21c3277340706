// An AXI4 subordinate in front of the memory: latency, order per id, exclusive monitor, errors, a trace.
//
// clock() is called once per rising edge. It sees what the manager drove in the cycle that ends at this edge, knows what it
// drove itself, and leaves in `out` what it drives in the next one. A read whose address was accepted at edge n has its first
// beat at edge n + latency at the earliest, one beat per edge over all ids.
#pragma once
#include <algorithm>
#include <array>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "axi.hpp"
#include "layout.hpp"
#include "random.hpp"
#include "sparse_memory.hpp"

class AxiMemory {
  public:
    AxiMemory(const std::string& port, SparseMemory& memory, std::function<void(const std::string&)> violation)
        : port_(port + ": "), memory_(memory), violation_(std::move(violation)) {
        knobs.latency = 1;
        knobs.exclusives = 1;
        monitors_.resize(1u << ID_WIDTH);
        order_.resize(1u << ID_WIDTH);
    }

    MemoryKnobs knobs{};
    MemoryCounters counters{};
    std::vector<uint64_t> reads_by_id = std::vector<uint64_t>(1u << ID_WIDTH);
    std::vector<Access> trace;
    AxiOut out;

    void set_knobs(const MemoryKnobs& value) {
        knobs = value;
        random_ = Random(value.seed);
    }

    // The transaction with this number (counted from the first one after now as 0) gets this response.
    void fail_access(bool write, uint64_t nth, uint8_t response) {
        const uint64_t number = (write ? counters.writes : counters.reads) + nth;
        failures_.push_back({write, number, response});
    }

    bool idle() const { return reads_.empty() && write_addresses_.empty() && write_beats_.empty() && writes_.empty(); }

    void clear_trace() {
        trace.clear();
        for (auto& read : reads_) read.trace_index = no_trace;
        for (auto& write : writes_) write.trace_index = no_trace;
        for (auto& index : write_traces_) index = no_trace;
    }

    // The bus is in reset: nothing is outstanding.
    void reset() {
        reads_.clear();
        unsampled_ = 0;
        bursting_ = false;
        write_addresses_.clear();
        write_traces_.clear();
        write_beats_.clear();
        writes_.clear();
        for (auto& monitor : monitors_) monitor.armed = false;
        out = AxiOut{};
        previous_ = AxiIn{};
    }

    // Someone wrote these bytes: exclusive reads of them have lost.
    void forget_exclusive(uint64_t address, uint64_t size) {
        for (auto& monitor : monitors_)
            if (monitor.armed && monitor.address < address + size && address < monitor.address + monitor.size)
                monitor.armed = false;
    }

    void clock(const AxiIn& in, uint64_t now) {
        check_held(in);
        if (out.r_valid && in.r_ready) finish_beat();
        if (out.b_valid && in.b_ready) finish_write();
        if (in.ar.valid && out.ar_ready) accept_read(in.ar, now);
        if (in.aw.valid && out.aw_ready) write_addresses_.push_back(in.aw), start_trace(true, in.aw, now);
        if (in.w.valid && out.w_ready) write_beats_.push_back(in.w);
        collect_writes(now);
        sample_reads();
        drive_read(now);
        drive_response(now);
        out.ar_ready = !random_.percent(knobs.stall_percent);
        out.aw_ready = !random_.percent(knobs.stall_percent);
        out.w_ready = !random_.percent(knobs.stall_percent);
    }

  private:
    struct SampledBeat {
        Beat data{};
        uint8_t response = OKAY;
    };

    struct Read {
        AddressChannel address;
        uint64_t due = 0;
        uint64_t number = 0;
        size_t trace_index = 0;
        bool late = false;  // sampled when driven
        unsigned sent = 0;
        std::vector<SampledBeat> sampled;
    };

    struct Write {
        AddressChannel address;
        std::vector<WriteBeat> beats;
        uint64_t due = 0;
        uint64_t number = 0;
        size_t trace_index = 0;
        bool done = false;
        uint8_t response = OKAY;
    };

    struct Monitor {
        bool armed = false;
        uint64_t address = 0, size = 0;
    };

    struct PlannedFailure {
        bool write;
        uint64_t number;
        uint8_t response;
    };

    // --- what the manager must keep ---------------------------------------------------------------------------------

    void check_held(const AxiIn& in) {
        if (previous_.ar.valid && !ar_was_ready_ && !(in.ar == previous_.ar)) violation_(port_ + "AR changed before ARREADY");
        if (previous_.aw.valid && !aw_was_ready_ && !(in.aw == previous_.aw)) violation_(port_ + "AW changed before AWREADY");
        if (previous_.w.valid && !w_was_ready_ && !(in.w == previous_.w)) violation_(port_ + "W changed before WREADY");
        ar_was_ready_ = out.ar_ready;
        aw_was_ready_ = out.aw_ready;
        w_was_ready_ = out.w_ready;
        previous_ = in;
    }

    void check_address(const AddressChannel& a, const char* channel) {
        const uint64_t bytes = uint64_t(a.beats + 1) << a.size;
        const std::string name = port_ + channel;
        if ((1u << a.size) > DATA_BYTES) violation_(name + "SIZE is wider than the bus");
        if (a.burst != INCR && a.burst != WRAP) violation_(name + "BURST is neither INCR nor WRAP");
        if (a.burst == WRAP && (bytes & (bytes - 1) || a.beats < 1 || a.beats > 15 || a.address % (1u << a.size)))
            violation_(name + " wrapping burst of a length that AXI forbids, or not aligned: " + std::to_string(a.beats + 1) +
                       " beats of " + std::to_string(1u << a.size) + " bytes from " + std::to_string(a.address));
        if (a.burst == INCR && a.address % SparseMemory::page_bytes + bytes > SparseMemory::page_bytes)
            violation_(name + " burst crosses a 4 KiB boundary");
        if (a.lock && (bytes > 128 || (bytes & (bytes - 1)) || a.address % bytes))
            violation_(name + " exclusive access is not aligned to its size");
    }

    // --- reads -------------------------------------------------------------------------------------------------------

    void accept_read(const AddressChannel& address, uint64_t now) {
        check_address(address, "AR");
        Read read;
        read.address = address;
        read.due = now + latency();
        read.number = counters.reads++;
        read.late = late();
        read.trace_index = start_trace(false, address, now);
        counters.read_beats += address.beats + 1;
        reads_by_id[address.id]++;
        if (!read.late) unsampled_++;
        reads_.push_back(std::move(read));
    }

    static uint64_t beat_address(const AddressChannel& a, unsigned index) {
        const uint64_t size = uint64_t(1) << a.size, first = a.address & ~(size - 1);
        if (a.burst != WRAP) return first + index * size;
        const uint64_t bytes = (a.beats + 1) * size;
        return (first & ~(bytes - 1)) + (first + index * size) % bytes;
    }

    // One beat per cycle and read, from its acceptance on, for those that are not sampled when they are driven.
    void sample_reads() {
        if (!unsampled_) return;
        for (auto& read : reads_)
            if (!read.late && read.sampled.size() <= read.address.beats) sample(read);
    }

    void sample(Read& read) {
        const unsigned index = read.sampled.size();
        const unsigned size = 1u << read.address.size;
        const uint64_t address = beat_address(read.address, index);
        SampledBeat beat;
        beat.data.fill(poison);
        uint8_t* lane = beat.data.data() + address % DATA_BYTES;
        const int planned = planned_failure(false, read.number);
        const int injected = memory_.injected(address, size, Failure::read);
        if (planned >= 0 || injected >= 0) {
            beat.response = planned >= 0 ? planned : injected;
        } else if (!memory_.read(address, lane, size)) {
            beat.response = DECERR;
        } else if (read.address.lock && knobs.exclusives && memory_.injected(address, size, Failure::update) < 0) {
            beat.response = EXOKAY;
            const uint64_t bytes = uint64_t(read.address.beats + 1) << read.address.size;
            monitors_[read.address.id] = {true, read.address.address, bytes};
        }
        if (read.trace_index != no_trace) {
            Access& entry = trace[read.trace_index];
            if (index == 0) std::memcpy(&entry.data, lane, std::min(size, 8u));
            entry.response = entry.response == NO_RESPONSE ? beat.response : std::max(entry.response, beat.response);
        }
        read.sampled.push_back(beat);
        if (!read.late && read.sampled.size() > read.address.beats) unsampled_--;
    }

    void finish_beat() {
        bursting_ = ++driven_->sent <= driven_->address.beats;
        if (!bursting_) reads_.erase(driven_);
        out.r_valid = false;
    }

    void drive_read(uint64_t now) {
        if (out.r_valid) return;  // not taken yet
        const bool amid_burst = !reads_.empty() && bursting_ && !knobs.interleave;
        const auto chosen = amid_burst ? driven_ : choose(reads_, now);
        if (chosen == reads_.end()) return;
        if (chosen->sampled.size() <= chosen->sent) sample(*chosen);
        const SampledBeat& beat = chosen->sampled[chosen->sent];
        driven_ = chosen;
        out.r_valid = true;
        out.r_id = chosen->address.id;
        out.r_data = beat.data;
        out.r_response = beat.response;
        out.r_last = chosen->sent == chosen->address.beats;
    }

    // --- writes ------------------------------------------------------------------------------------------------------

    void collect_writes(uint64_t now) {
        while (!write_addresses_.empty() && write_beats_.size() > write_addresses_.front().beats) {
            Write write;
            write.address = write_addresses_.front();
            write_addresses_.pop_front();
            check_address(write.address, "AW");
            for (unsigned index = 0; index <= write.address.beats; index++) {
                write.beats.push_back(write_beats_.front());
                write_beats_.pop_front();
                if (write.beats.back().last != (index == write.address.beats)) violation_(port_ + "WLAST at the wrong beat");
            }
            write.due = now + latency();
            write.number = counters.writes++;
            write.trace_index = write_traces_.front();
            write_traces_.pop_front();
            writes_.push_back(std::move(write));
            if (!late()) perform_in_order();
        }
    }

    // The newest write, after older ones of its id to the same bytes: AXI keeps these in order.
    void perform_in_order() {
        const auto range = [](const Write& write) {
            const AddressChannel& a = write.address;
            const uint64_t start = a.address & ~uint64_t((1u << a.size) - 1);
            return std::pair(start, start + (uint64_t(a.beats + 1) << a.size));
        };
        const auto [start, end] = range(writes_.back());
        for (auto& older : writes_) {
            const auto [from, to] = range(older);
            if (!older.done && older.address.id == writes_.back().address.id && from < end && start < to) perform(older);
        }
    }

    void perform(Write& write) {
        write.done = true;
        const AddressChannel& a = write.address;
        const uint64_t bytes = uint64_t(a.beats + 1) << a.size;
        const uint64_t start = a.address & ~uint64_t((1u << a.size) - 1);
        const int planned = planned_failure(true, write.number);
        const int injected = memory_.injected(start, bytes, Failure::write);
        if (planned >= 0 || injected >= 0) {
            write.response = planned >= 0 ? planned : injected;
        } else if (!memory_.exists(start, bytes)) {
            write.response = DECERR;
        } else if (!a.lock || !monitors_on(start, bytes)) {
            write.response = OKAY;
            store(write, start);
        } else if (exclusive_holds(write, bytes)) {
            write.response = EXOKAY;
            store(write, start);
        } else {
            write.response = OKAY;
            counters.exclusive_failures++;
        }
        if (write.trace_index != no_trace) {
            Access& entry = trace[write.trace_index];
            std::memcpy(&entry.data, write.beats[0].data.data() + start % DATA_BYTES, std::min<uint64_t>(1u << a.size, 8));
            entry.response = write.response;
        }
    }

    bool monitors_on(uint64_t address, uint64_t size) const {
        return knobs.exclusives && memory_.injected(address, size, Failure::update) < 0;
    }

    bool exclusive_holds(const Write& write, uint64_t bytes) {
        Monitor& monitor = monitors_[write.address.id];
        const bool holds = monitor.armed && monitor.address == write.address.address && monitor.size == bytes;
        monitor.armed = false;
        return holds && !random_.percent(knobs.exclusive_loss_percent);
    }

    void store(const Write& write, uint64_t start) {
        const unsigned size = 1u << write.address.size;
        for (unsigned index = 0; index < write.beats.size(); index++) {
            const uint64_t address = start + uint64_t(index) * size;
            const unsigned lane = address % DATA_BYTES;
            store_beat(address, lane, size, write.beats[index]);
        }
    }

    // The strobed bytes of a beat, in as few pieces as there are runs of them.
    void store_beat(uint64_t address, unsigned lane, unsigned size, const WriteBeat& beat) {
        const uint64_t lanes = (size == 64 ? ~uint64_t(0) : (uint64_t(1) << size) - 1) << lane;
        if (beat.strobe & ~lanes) violation_(port_ + "WSTRB outside the lanes of the beat");
        for (unsigned at = 0; at < size;) {
            unsigned run = 0;
            while (at + run < size && beat.strobe >> (lane + at + run) & 1) run++;
            if (run) memory_.write(address + at, beat.data.data() + lane + at, run);
            at += run + 1;
        }
    }

    void finish_write() {
        writes_.erase(answered_);
        out.b_valid = false;
    }

    void drive_response(uint64_t now) {
        if (out.b_valid) return;  // not taken yet
        const auto chosen = choose(writes_, now);
        if (chosen == writes_.end()) return;
        if (!chosen->done) perform(*chosen);
        answered_ = chosen;
        out.b_valid = true;
        out.b_id = chosen->address.id;
        out.b_response = chosen->response;
    }

    // --- both --------------------------------------------------------------------------------------------------------

    // The transaction to answer next: the oldest that is due and first of its id; with interleaving any of those.
    template <class List> typename List::iterator choose(List& list, uint64_t now) {
        auto chosen = list.end();
        unsigned candidates = 0;
        stamp_++;
        for (auto item = list.begin(); item != list.end(); ++item) {
            uint64_t& seen = order_[item->address.id];
            if (seen == stamp_) continue;
            seen = stamp_;
            if (item->due > now + 1) {
                if (!knobs.jitter) break;  // all after it are due later still
                continue;
            }
            if (!knobs.interleave) return item;
            if (random_.below(++candidates) == 0) chosen = item;
        }
        return chosen;
    }

    uint64_t latency() { return std::max<uint32_t>(knobs.latency, 1) + (knobs.jitter ? random_.below(knobs.jitter + 1) : 0); }

    bool late() { return knobs.moment == MOMENT_RANDOM ? random_.percent(50) : knobs.moment == MOMENT_LATE; }

    int planned_failure(bool write, uint64_t number) const {
        for (const auto& failure : failures_)
            if (failure.write == write && failure.number == number) return failure.response;
        return -1;
    }

    size_t start_trace(bool write, const AddressChannel& a, uint64_t now) {
        size_t index = no_trace;
        if (knobs.trace) {
            index = trace.size();
            trace.push_back({now, a.address, 0, a.id, write, a.beats, a.size, a.burst, a.lock, NO_RESPONSE});
        }
        if (write) write_traces_.push_back(index);
        return index;
    }

    static constexpr uint8_t poison = 0xa5;  // lanes that carry nothing look like present entries
    static constexpr uint8_t INCR = 1, WRAP = 2;
    static constexpr size_t no_trace = ~size_t(0);

    const std::string port_;
    SparseMemory& memory_;
    std::function<void(const std::string&)> violation_;
    Random random_;
    std::list<Read> reads_;
    std::list<Read>::iterator driven_;  // whose beat is on the bus, or was last
    bool bursting_ = false;             // and it has more of them
    unsigned unsampled_ = 0;            // reads with beats to be sampled before they are driven
    std::deque<AddressChannel> write_addresses_;
    std::deque<size_t> write_traces_;
    std::deque<WriteBeat> write_beats_;
    std::list<Write> writes_;
    std::list<Write>::iterator answered_;
    std::vector<Monitor> monitors_;
    std::vector<uint64_t> order_;
    uint64_t stamp_ = 0;
    std::vector<PlannedFailure> failures_;
    AxiIn previous_;
    bool ar_was_ready_ = true, aw_was_ready_ = true, w_was_ready_ = true;
};
