// Memory in which operators work. A thread keeps what it had before: to get it anew, page by page, takes longer than to
// compute what small maps need.

#pragma once

#include <algorithm>
#include <cstdint>
#include <new>
#include <vector>

constexpr std::align_val_t ALIGNED{64};  // to lines of the cache
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t KEPT = 0;  // for what is kept has no guarded ends
#else
constexpr std::size_t KEPT = std::size_t{16} << 20;  // bytes; what is larger is given back
#endif

// What a thread has and does not use.
struct Free {
    struct Piece {
        void* memory;
        std::size_t bytes;
    };
    std::vector<Piece> pieces;

    ~Free() {
        for (const Piece& piece : pieces) ::operator delete(piece.memory, ALIGNED);
    }
    // The smallest that suffices, else a new one in place of the largest.
    Piece take(std::size_t bytes) {
        const auto less = [](const Piece& a, const Piece& b) { return a.bytes < b.bytes; };
        auto found = pieces.end();
        for (auto each = pieces.begin(); each != pieces.end(); ++each)
            if (each->bytes >= bytes && (found == pieces.end() || less(*each, *found))) found = each;
        const bool suffices = found != pieces.end();
        if (!suffices) found = std::max_element(pieces.begin(), pieces.end(), less);
        Piece piece{nullptr, 0};
        if (found != pieces.end()) {
            piece = *found;
            pieces.erase(found);
        }
        if (suffices) return piece;
        if (piece.memory) ::operator delete(piece.memory, ALIGNED);
        return {::operator new(bytes, ALIGNED), bytes};
    }
    void give(Piece piece) {
        if (piece.bytes > KEPT)
            ::operator delete(piece.memory, ALIGNED);
        else
            pieces.push_back(piece);
    }
};

inline thread_local Free unused;

// So many of a plain type, with any content, as long as this lives; it ends in the thread in which it began.
template <typename Type>
class Room {
    Free::Piece piece;

   public:
    explicit Room(int64_t count) : piece(unused.take(static_cast<std::size_t>(count) * sizeof(Type))) {}
    ~Room() { unused.give(piece); }
    Room(const Room&) = delete;
    Room& operator=(const Room&) = delete;

    Type* data() const { return static_cast<Type*>(piece.memory); }
    Type& operator[](int64_t i) const { return data()[i]; }
};
